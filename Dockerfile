# One image, two roles: FEDLMD_ROLE=server or worker. See compose.yaml.
FROM python:3.11-slim

# CPU builds of torch are a tenth of the CUDA builds. Empty takes torch from the default index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /app
COPY requirements/runtime.lock requirements/
RUN grep '^torch==' requirements/runtime.lock > requirements/torch.lock \
 && pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements/torch.lock \
 && pip install --no-cache-dir -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY fedlmd fedlmd
RUN pip install --no-cache-dir --no-deps .
COPY fedlmd/cli/demo/demo.toml /etc/fedlmd/settings.toml

# Not root, and no account needed: a number that owns the node's folder and nothing else.
RUN mkdir /node && chown 10001:10001 /node
USER 10001:10001
WORKDIR /node
VOLUME /node
ENV HOME=/node USER=fedlmd FEDLMD_HOME=/node FEDLMD_HOST=0.0.0.0 FEDLMD_PORT=8000 FEDLMD_SETTINGS=/etc/fedlmd/settings.toml \
    OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1
EXPOSE 8000 9092
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=6 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["fedlmd", "serve"]
