# The image of ContainerOS, for amd64 and arm64: each stage runs on the architecture that it builds for.
# Base images are pinned by their exact tag; docs/packaging.md says how to pin them by digest, too.
ARG NODE_IMAGE=node:20.20.2-bookworm-slim

# ---- Temporal, Consul and Caddy: the same pinned, checked releases that `npm start` fetches ----
FROM ${NODE_IMAGE} AS engines
ARG CONTAINEROS_DOWNLOAD_BASE=
WORKDIR /src
COPY scripts/ scripts/
RUN CONTAINEROS_CACHE_DIR=/tmp/cache node scripts/engines.mjs --copy-to /engines

# ---- ContainerOS itself, with what it needs at run time and no more ----
FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev
COPY . .
RUN node scripts/build.mjs
# Temporal's core comes for every platform; one of them can run here.
RUN cd node_modules/@temporalio/core-bridge/releases \
  && case "$(uname -m)" in x86_64) keep=x86_64 ;; aarch64) keep=aarch64 ;; *) echo "no image for $(uname -m)"; exit 1 ;; esac \
  && for platform in *; do [ "$platform" = "$keep-unknown-linux-gnu" ] || rm -r "$platform"; done

FROM ${NODE_IMAGE}
COPY --from=engines /engines/ /usr/local/bin/
WORKDIR /opt/containeros
COPY --from=build /src/package.json ./
COPY --from=build /src/bin/ bin/
COPY --from=build /src/scripts/ scripts/
COPY --from=build /src/node_modules/ node_modules/
COPY --from=build /src/dist/ dist/
RUN ln -s /opt/containeros/bin/containeros.js /usr/local/bin/containeros

ENV NODE_ENV=production \
  CONTAINEROS_DATA_DIR=/var/lib/containeros \
  CONTAINEROS_DOCKER_SOCKET=/var/run/docker.sock \
  CONTAINEROS_TEMPORAL_BIN=/usr/local/bin/temporal \
  CONTAINEROS_CONSUL_BIN=/usr/local/bin/consul \
  CONTAINEROS_CADDY_BIN=/usr/local/bin/caddy
VOLUME /var/lib/containeros

HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["node", "/opt/containeros/scripts/docker-health.mjs"]

# Starts as root to learn which group may use the Docker socket, then runs as an ordinary user in that group.
ENTRYPOINT ["/opt/containeros/scripts/docker-entrypoint.sh"]
CMD ["up"]
