# Two stages on one base: the first makes an environment, the second runs it. Build arguments:
#   TORCH_INDEX  an index of torch's builds for the CPU; without it torch brings CUDA libraries
#   PIP_INDEX_URL  where everything else comes from, in the versions of requirements.lock
FROM python:3.11.14-slim-trixie AS build

ARG TORCH_INDEX
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/venv

# Dependencies before code, so that a change of code rebuilds a few seconds' worth.
COPY pyproject.toml requirements.lock ./
RUN pip --python /opt/venv install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    "$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)"
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], sep='\n')" > runtime.txt \
    && pip --python /opt/venv install --constraint requirements.lock --requirement runtime.txt \
    && pip install --constraint requirements.lock hatchling

COPY README.md ./
COPY ingest ingest/
COPY recalibrate recalibrate/
COPY judge judge/
COPY online online/
COPY store store/
COPY migrations migrations/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/venv install --no-deps wheels/steersman-*.whl


FROM python:3.11.14-slim-trixie

# These folders are made here so that new volumes mounted on them belong to this user.
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin steersman \
    && install --directory --owner steersman --group steersman --mode 0750 \
       /var/cache/steersman /var/lib/steersman
COPY --from=build /opt/venv /opt/venv

# The model ships in a wheel: nothing is to be fetched at run time. Besides its cache a role writes a
# heartbeat file and, serving, the spool of decisions that PostgreSQL lacks, in the run directory.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    STEERSMAN_RUN_DIR=/tmp/steersman \
    STEERSMAN_CACHE_DIR=/var/cache/steersman
USER steersman
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["steersman"]
CMD ["--help"]
