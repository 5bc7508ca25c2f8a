# docker build --tag scoregate:0.1.0 .                                    the whole program: workspace, gate, commands
# docker build --tag scoregate-gate:0.1.0 --target scoregate-gate .       without the workspace's code
# With `--build-arg FEATURES=otlp` a gate can send spans (docs/operations.md, Traces).
#
# As it is pulled: some 10 MB of the base, and 9 MB of the program, or 7 without the workspace's code (tests/test_k8s.py has
# a limit).
#
# Digests belong after the two tags (`docker buildx imagetools inspect IMAGE` shows them): a tag may be moved.

# Debian 12, as the base below: a program that is linked to a newer C library would not start there.
FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
# The same sources give the same bytes: no time of day and no path of a machine, neither in Rust's code nor in that of the C
# libraries; the lock file names every crate by its digest, and the release profile (Cargo.toml) says how code is made.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_STRIP=symbols \
    RUSTFLAGS="--remap-path-prefix=/src=scoregate --remap-path-prefix=/usr/local/cargo=cargo" \
    CFLAGS="-ffile-prefix-map=/src=scoregate -ffile-prefix-map=/usr/local/cargo=cargo"

# The cache has crates as they were published, checked against the lock file. What was compiled is not kept: Cargo goes by the
# age of files there, and a checkout of something older would be taken for built.
FROM source AS build-gate
ARG FEATURES=
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked --bin scoregate --no-default-features --features "${FEATURES}"

FROM source AS build
ARG FEATURES=
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --release --locked --bin scoregate --features "${FEATURES}"

# The C library, no shell, no package manager, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS scoregate-gate
COPY --from=build-gate /src/LICENSE /usr/share/doc/scoregate/
COPY --from=build-gate /src/target/release/scoregate /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/scoregate"]
CMD ["gate"]

# The last one, so that it is the one without `--target`.
FROM gcr.io/distroless/cc-debian12:nonroot AS scoregate
COPY --from=build /src/LICENSE /usr/share/doc/scoregate/
COPY --from=build /src/target/release/scoregate /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/scoregate"]
CMD ["--help"]
