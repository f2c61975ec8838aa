# The service with the model that ships, as one image; and, as a second target, the training.
#
#   make image             docker build -t photoz .
#   make image-training    docker build -t photoz-training --target training .
#
# Another registry's, or another Python (3.11 to 3.13): --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.11-slim

# ---- What serving needs: wheels with the hashes of the lock, so that nothing is compiled, and nothing to install with.
FROM ${PYTHON_IMAGE} AS serving
COPY requirements/service.txt /build/
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --no-compile \
        --only-binary :all: --require-hashes --requirement /build/service.txt
# Of OpenVINO the network runs on the CPU, from its own format: without the other devices and formats, what C++ programs
# are built with, and everybody's own tests, the image is 110 MB smaller. It is 50 MB smaller without C sources, stubs,
# AVIF, numpy's compiling of Fortran, and what matplotlib writes PDF, PostScript and TeX with: the plots are PNG. Then all
# is compiled, with nothing in it that differs from one build to the next: the root is read-only, and two builds are the same.
RUN packages=$(echo /venv/lib/python3.*/site-packages) && openvino=$packages/openvino \
    && rm -rf "$openvino/include" "$openvino/cmake" "$openvino/libs/cache.json" \
        "$openvino"/libs/libopenvino_intel_[gn]pu_plugin.so "$openvino"/libs/libopenvino_*[!r]_frontend.so.* \
    && find "$packages/fontTools" -mindepth 1 -maxdepth 1 -type d ! -name misc -exec rm -r {} + \
    && rm -rf "$packages"/fontTools/misc/*.so "$packages"/matplotlib/mpl-data/fonts/*/*.afm "$packages/numpy/f2py" \
        "$packages/numpy/distutils" "$packages"/PIL/_avif.*.so "$packages"/pillow.libs/libavif-*.so.* \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && find /venv -type f \( -name '*.c' -o -name '*.pyi' \) -delete \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv/lib
COPY photoz /app/photoz
COPY service /app/service
COPY models/photoz /app/models/photoz
COPY examples/cutouts.npz /app/examples/
# A checkout has the modes of its owner's umask: for all to read, and the same in each build.
RUN python -m compileall -q --invalidation-mode unchecked-hash /app && chmod -R u=rwX,go=rX /app

# ---- Offline training: all that makes a bundle, TensorFlow among it.
FROM ${PYTHON_IMAGE} AS training
COPY requirements/training.txt /build/
RUN python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement /build/training.txt
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
COPY photoz /app/photoz
COPY training /app/training
RUN chmod -R u=rwX,go=rX /app
LABEL org.opencontainers.image.title="photoz-training" \
      org.opencontainers.image.description="Trains model bundles for the photo-z service" \
      org.opencontainers.image.licenses="Apache-2.0"
# docker run --rm -v "$PWD/data:/data" --user "$(id -u)" photoz-training train --data mine.npz --bundle mine
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["python", "-m", "training"]

# ---- The service.
FROM ${PYTHON_IMAGE}
ARG VERSION=1.0.0 REVISION=unknown PYTHON_IMAGE
LABEL org.opencontainers.image.title="photoz" \
      org.opencontainers.image.description="Calibrated photometric-redshift PDFs from galaxy images, over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# The folders of BentoML and matplotlib are of no use but have to be: in the only place that is writable.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    BENTOML_HOME=/tmp/bentoml \
    BENTOML_DO_NOT_TRACK=true \
    MPLCONFIGDIR=/tmp/matplotlib
COPY --from=serving /venv /venv
# Another model: mount its bundle at /app/models/photoz, or set PHOTOZ_BUNDLE.
COPY --from=serving /app /app
WORKDIR /app
# A number, so that Kubernetes can see that it is not root. Nothing here belongs to it.
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
# The exec form: this is process 1, and gets the SIGTERM that ends the container.
CMD ["python", "-m", "service", "serve", "--host", "0.0.0.0"]
