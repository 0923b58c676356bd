"""``plan.json``, published beside the records of a suite: which cells its boards are made of, and under which keys.

A table is what its plan says, whatever records lie in its folder: a record whose key no cell of the plan has is foreign
and on no board.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ppfr_bench.cards import Config
from ppfr_bench.records.record import CellKind, Component, Slot


class PlannedCell(Config):
    """One cell: the key of its record, and labels of what is measured."""

    key: str = Field(pattern=r"^[0-9a-f]{64}$")
    cell: CellKind
    defense: str
    attack: str = ""
    recognizer: str = ""
    seed: int

    @property
    def slot(self) -> Slot:
        """What it measures, on whichever defense and under whichever seed."""
        return self.cell, self.attack, self.recognizer

    @property
    def place(self) -> tuple[str, Slot, int]:
        """A board has one record for each: defense, slot and seed."""
        return self.defense, self.slot, self.seed


class PlannedDefense(Config):
    """A row of a table: the plug-in under its parameters, and the track that follows from what it releases.

    Attributes:
        control: an end of the scale, which never competes for a rank.
        unprotected: nothing is protected: the images are the originals.
        seen: names of the recognizers that it reads or was optimised against; all others are left out.
    """

    component: Component
    track: str
    control: bool = False
    unprotected: bool = False
    seen: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _usual_goes_without_saying(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Rows that see none stay as they were, to the byte."""
        written: dict[str, Any] = dump(self)
        if not self.seen:
            written.pop("seen", None)
        return written


class PlannedAttack(Config):
    """An attack of a table: what scores its answer, and the privacy that it sets, if any.

    Attributes:
        faces: what the faces of its answer are: ``rebuilt``, ``released`` (handed on as they are) or ``unrelated`` to
            the target (a baseline that a reconstruction must beat); empty where its answer is no images.
        shown: the measurement that pages show where nothing leaks by it; empty for all of them.
        shots: releases of each target that it wants.
        sources: labels of the attacks whose reconstructions it starts from.
        from_embedding: its answer is made of embeddings alone: what leaks by it where nothing is protected is the price
            of utility.
        live: False: its answers were made elsewhere; only the rows that it is planned for have it, and its parameters
            are another in each of them.
    """

    component: Component
    scorer: str
    sets: str = ""
    faces: Literal["", "rebuilt", "released", "unrelated"] = ""
    shown: str = ""
    shots: int = Field(1, ge=1)
    sources: tuple[str, ...] = ()
    from_embedding: bool = False
    live: bool = True

    @model_serializer(mode="wrap")
    def _usual_goes_without_saying(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Plans without answers that were made elsewhere, or of embeddings, stay as they were, to the byte."""
        written: dict[str, Any] = dump(self)
        if self.live:
            written.pop("live", None)
        if not self.from_embedding:
            written.pop("from_embedding", None)
        return written

    @model_validator(mode="before")
    @classmethod
    def _attributes_have_a_privacy_of_their_own(cls, found: Any) -> Any:
        """Plans of version 0.1 count what is read off a face as its appearance."""
        if isinstance(found, dict) and (found.get("scorer"), found.get("sets")) == ("attributes", "appearance"):
            return found | {"sets": "attribute"}
        return found


class PlannedRecognizer(Config):
    """A recognizer of a table; ``weak``: it misjudges too many clear pairs to tell what a defense keeps."""

    component: Component
    surrogate: bool = False
    adapted: bool = False
    weak: bool = False

    @model_serializer(mode="wrap")
    def _usual_goes_without_saying(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Plans without a weak recognizer stay as they were, to the byte."""
        written: dict[str, Any] = dump(self)
        if not self.weak:
            written.pop("weak", None)
        return written


class PlannedTable(Config):
    """All that was planned on one data set.

    Attributes:
        seed: the suite's own, whose records are published; those of other seeds widen their intervals.
        metrics: versions of what is computed, by name of the metric.
        cells: one for each defense, slot and seed.
    """

    dataset: Component
    revision: str
    real_people: bool
    seed: int
    protocol: dict[str, Any] = Field(default_factory=dict)
    defenses: dict[str, PlannedDefense]
    attacks: dict[str, PlannedAttack]
    recognizers: dict[str, PlannedRecognizer]
    metrics: dict[str, int] = Field(default_factory=dict)
    cells: tuple[PlannedCell, ...]

    def merged(self, newer: PlannedTable) -> PlannedTable:
        """Both together; where they differ the newer holds, and all of it where the data are of another revision."""
        if newer.revision != self.revision:
            return newer
        cells = {cell.place: cell for cell in (*self.cells, *newer.cells)}
        return newer.model_copy(
            update={
                "defenses": self.defenses | newer.defenses,
                "attacks": self.attacks | newer.attacks,
                "recognizers": self.recognizers | newer.recognizers,
                "metrics": self.metrics | newer.metrics,
                "cells": tuple(cells[place] for place in sorted(cells)),
            }
        )


class PlanFile(Config):
    """The plan of a suite, by label of the data set.

    Attributes:
        tables: of the boards.
        aside: tables of the same data sets in other revisions, whose records are set aside; by label and revision.
    """

    schema_version: Literal[1] = 1
    suite: str
    title: str = ""
    tables: dict[str, PlannedTable]
    aside: dict[str, dict[str, PlannedTable]] = Field(default_factory=dict)

    def merged(self, newer: PlanFile) -> PlanFile:
        """Both together: what an earlier run has planned stays, unless the newer one plans it otherwise."""
        tables, aside = dict(self.tables), {label: dict(found) for label, found in self.aside.items()}
        for label, table in newer.tables.items():
            before = tables.get(label)
            if before is not None and before.revision != table.revision:
                kept = aside.setdefault(label, {})
                kept[before.revision] = before
                before = kept.pop(table.revision, None)
            tables[label] = before.merged(table) if before is not None else table
        ordered = {label: tables[label] for label in sorted(tables)}
        return newer.model_copy(
            update={"tables": ordered, "aside": {label: kept for label, kept in aside.items() if kept}}
        )
