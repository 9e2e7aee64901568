# The static binary, the CAs of the web and an empty state directory: nothing else is in the image.
#
#   docker build .                                         compiles here (BIN=build)
#   docker build --build-arg BIN=prebuilt <a directory>    takes `portolan`, `etc` and `state/portolan` from that: `make image`
#
# BuildKit builds and pulls only the stages that the last one needs.
ARG BIN=build
ARG RUST=rust:1.91-bookworm

FROM ${RUST} AS compiled
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN export CARGO_BUILD_TARGET="$(rustc -vV | sed -n 's/^host: //p')" RUSTFLAGS='-C target-feature=+crt-static' \
    && cargo build --release --locked --bin portolan \
    && mkdir -p /out/etc/ssl/certs && mkdir /out/state && mkdir -m 700 /out/state/portolan \
    && cp "target/$CARGO_BUILD_TARGET/release/portolan" /out/portolan \
    && cp -L /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/

FROM scratch AS build
COPY --from=compiled /out /

FROM scratch AS prebuilt
COPY etc /etc
COPY state /state
COPY portolan /portolan

FROM ${BIN} AS bin

FROM scratch
COPY --from=bin /etc /etc
COPY --from=bin /portolan /portolan
# A new volume takes owner and mode from here (a directory keeps its mode as part of what is copied, not as its root). The
# internal CA is in there: without a volume every new container would be a CA that nobody trusts.
COPY --from=bin --chown=65532:65532 /state/ /var/lib/
VOLUME /var/lib/portolan
# Started as root, it takes the group of the engine's socket and goes on as this user; started as another user it stays
# that. See docs/docker.md.
ENV PORTOLAN_USER=65532
EXPOSE 80 443
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/portolan", "health"]
ENTRYPOINT ["/portolan"]
CMD ["run"]
