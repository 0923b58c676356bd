# Two commands do everything:  make leaderboard  ·  make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RESULTS ?= .bench/results
OUT ?= .bench/leaderboards
SUITE ?= quick

.PHONY: leaderboard site test check versions official benchmark nightly fuzz clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help:
	@echo "make leaderboard   set up, fetch the weights, run the quick suite here, write .bench/leaderboards/quick/"
	@echo "make test          the tests"
	@echo "make site          documentation and leaderboards as one site, in .bench/site/ (BOARDS=.bench/leaderboards: yours)"
	@echo "make check         tests, lint and types: what CI runs"
	@echo "make versions      some tests on the newest Python, and with the lowest versions that pyproject.toml admits"
	@echo "make benchmark     speed, as ratios within one run"
	@echo "make fuzz          an hour of broken inputs for every loader, other ones every day"
	@echo "make official      the records and pages of every board; stopped, it goes on with what is missing"
	@echo "make nightly       what changed since the last records, and whether anything moved"

$(BIN)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ppfr-bench needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -e '.[recognizers,test]'
	@touch $@

leaderboard: $(BIN)/.installed
	$(BIN)/ppfr-bench assets fetch
	$(BIN)/ppfr-bench run $(SUITE) --results $(RESULTS)
	$(BIN)/ppfr-bench leaderboard --results $(RESULTS) --out $(OUT)

# One site of docs/ and the committed leaderboards: open .bench/site/index.html.
BOARDS ?= leaderboards
site: $(BIN)/.installed
	PPFR_BENCH_BOARDS=$(BOARDS) $(BIN)/python -m mkdocs build --strict --site-dir .bench/site

test: $(BIN)/.installed
	$(BIN)/python -m pytest -q -m "not slow" -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

versions:
	.ci/python_versions

# The committed records and pages, board by board. The same command again does only what is missing; with -k, a cell that
# failed does not keep the other boards back. A board is measured on a copy, which takes its place when it is whole.
# The suites of photographs need PPFR_BENCH_LFW, and cfp_fp PPFR_BENCH_CFP.
# On a cluster:  make official CLUSTER="--scheduler tcp://192.168.0.1:8786 --stages /shared/stages"
# Two more seeds of the first rows, and of the two ends of the scale, go into the intervals of the boards of images.
OFFICIAL ?= quick lfw_quick cfp_fp template_quick template_lfw_quick cloak_quick cloak_lfw_quick robustness_quick \
	standard lfw_standard
SEEDED := quick lfw_quick cfp_fp standard lfw_standard
REPEATED := $(addprefix --defense ,no_defense blackout gaussian_blur pixelate block_permutation \
	block_permutation_per_image local_contrast stochastic_local \
	stochastic_anonymizer stochastic_anonymizer_70 stochastic_anonymizer_100 face_renderer)
CLUSTER ?=
UNFINISHED := results/unfinished
official: $(addprefix official-,$(OFFICIAL))
	$(BIN)/ppfr-bench leaderboard --results results --out leaderboards

official-%: $(BIN)/.installed
	mkdir -p $(UNFINISHED)
	if [ -d results/$* ] && [ ! -d $(UNFINISHED)/$* ]; then \
		rm -rf $(UNFINISHED)/.copy && cp -R results/$* $(UNFINISHED)/.copy && mv $(UNFINISHED)/.copy $(UNFINISHED)/$*; fi
	$(BIN)/ppfr-bench run $* --results $(UNFINISHED) $(CLUSTER)
	$(if $(filter $*,$(SEEDED)),$(BIN)/ppfr-bench run $* --results $(UNFINISHED) --seed 1 $(REPEATED) $(CLUSTER))
	$(if $(filter $*,$(SEEDED)),$(BIN)/ppfr-bench run $* --results $(UNFINISHED) --seed 2 $(REPEATED) $(CLUSTER))
	rm -rf results/$* && mv $(UNFINISHED)/$* results/$*

benchmark: $(BIN)/.installed
	$(BIN)/python -m pytest -q tests/benchmarks -m slow --benchmark-only

# `make test` has a fixed set of these inputs; FUZZ_SEED repeats those of a day.
LOADERS := 15
FUZZ_SEED ?= $(shell date -u +%Y%m%d)
FUZZ_MINUTES ?= 60
fuzz: $(BIN)/.installed
	@echo "FUZZ_SEED=$(FUZZ_SEED)"
	PPFR_BENCH_FUZZ_SEED=$(FUZZ_SEED) PPFR_BENCH_FUZZ_SECONDS=$$(($(FUZZ_MINUTES) * 60 / $(LOADERS))) \
		$(BIN)/python -m pytest -q tests/fuzz

# What a cron line runs: speed first, then what changed and a sample of what did not. Exit 1 if anything moved.
nightly: $(BIN)/.installed
	$(BIN)/ppfr-bench assets fetch
	@mkdir -p .bench
	$(BIN)/python -m pytest -q tests/benchmarks -m slow --benchmark-only --benchmark-json=.bench/benchmarks.json
	$(BIN)/ppfr-bench nightly quick --benchmarks .bench/benchmarks.json

clean:
	rm -rf $(VENV) .bench build dist
