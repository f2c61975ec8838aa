# The service with the model that ships, as one image. Build: docker build -t photoz .
# Run: docker run --rm -p 127.0.0.1:3000:3000 photoz
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
RUN python -m venv /venv
COPY requirements/service.txt /build/
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/service.txt

FROM ${PYTHON_IMAGE}
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # BentoML reports its use unless this says exactly "true".
    BENTOML_DO_NOT_TRACK=true \
    HOME=/home/photoz \
    BENTOML_HOME=/home/photoz/bentoml \
    MPLCONFIGDIR=/home/photoz/matplotlib
COPY --from=build /venv /venv
WORKDIR /app
COPY photoz photoz
COPY service service
COPY models/photoz models/photoz
# The list of fonts is made once, here: without it every plot would spend seconds on its own. The folder has to be
# writable or matplotlib does not read it either.
RUN python -m compileall -q photoz service \
    && python -c "import matplotlib.font_manager" \
    && chown -R 10001:10001 /home/photoz
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
# The exec form: this becomes BentoML, which is process 1 and gets the SIGTERM that stops the container.
CMD ["python", "-m", "service.serve", "--host", "0.0.0.0"]
