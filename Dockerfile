# The daemon: a wheel and its dependencies in a virtual environment, Git, and nothing else of ours.
# Runs as user 65532 with a read-only root; everything that changes lies in /data (and /tmp).

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/reconciler
COPY pyproject.toml README.md ./
COPY reconciler reconciler
COPY schemas schemas
COPY examples examples
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && pip --python /opt/reconciler/bin/python install --no-cache-dir /wheels/*.whl

FROM python:3.11-slim
LABEL org.opencontainers.image.title="reconciler" \
      org.opencontainers.image.description="Firmware upgrades, driven from Git"

# git follows the repository, ssh reaches those behind a key (the base image has the CA certificates)
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git openssh-client \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 65532 reconciler \
 && useradd --uid 65532 --gid 65532 --home-dir /data --no-create-home --shell /usr/sbin/nologin reconciler \
 && install --directory --owner=65532 --group=65532 --mode=0700 /data

COPY --from=build /opt/reconciler /opt/reconciler

ENV PATH=/opt/reconciler/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RECONCILER_DATA_DIR=/data \
    RECONCILER_HTTP_BIND=0.0.0.0:8080 \
    RECONCILER_MQTT_BIND=0.0.0.0:1883

USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080 1883

# asks on the port that RECONCILER_HTTP_BIND names, with TLS when it has a certificate (which need not be ours)
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import os, ssl, urllib.request as u; \
port = os.environ['RECONCILER_HTTP_BIND'].rpartition(':')[2]; \
s = 's' * bool(os.environ.get('RECONCILER_HTTP_CERTIFICATE')); \
u.urlopen(f'http{s}://127.0.0.1:{port}/livez', timeout=4, context=ssl._create_unverified_context() if s else None)"]

ENTRYPOINT ["reconciler"]
CMD ["run"]
