# Lastunit with its embedded engine, which keeps its data in /data.
#
#   docker build --tag lastunit .
#   docker run --network host --volume lastunit:/data lastunit
#
# Without API keys Lastunit serves loopback only and refuses to start on another address, hence the host's network:
# it answers on 127.0.0.1:8000 of the host. Options follow the image's name, or come as LASTUNIT_<NAME>.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src

# All of the lock is fetched and verified; what follows installs from these files alone.
COPY requirements.lock .
RUN pip download --no-cache-dir --require-hashes --dest /wheels --requirement requirements.lock
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/lastunit \
 && /opt/lastunit/bin/pip install --no-cache-dir 'lastunit[embedded]'

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 lastunit \
 && useradd --uid 10001 --gid lastunit --no-create-home lastunit \
 && install --directory --owner lastunit --group lastunit --mode 0700 /data
COPY --from=build /opt/lastunit /opt/lastunit
ENV PATH=/opt/lastunit/bin:$PATH PYTHONUNBUFFERED=1 LASTUNIT_DATA_DIR=/data LASTUNIT_PORT=8000
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
  "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"LASTUNIT_PORT\"]}/livez', timeout=2)"]
ENTRYPOINT ["lastunit", "serve"]
