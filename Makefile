# Linked statically, so that the binary runs from an image that holds nothing else. tests/run says the same.
export RUSTFLAGS ?= -C target-feature=+crt-static
export CARGO_BUILD_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

built := $(or $(CARGO_TARGET_DIR),target)/$(CARGO_BUILD_TARGET)
# What the image is made of, apart from everything else here: a build context is sent whole.
context := $(built)/image
# A docker client that builds with BuildKit: since 23.0 that is one with buildx, before it is any.
builder = $(or $(firstword $(foreach client,docker /usr/bin/docker,$(shell \
	{ $(client) buildx version || $(client) --version | grep -E 'version (19|20)\.'; } >/dev/null 2>&1 && echo $(client)))), \
	$(error no docker client here builds with BuildKit: install buildx (docker-buildx, docker-buildx-plugin)))
ca_bundle := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))

.PHONY: help demo test lint fmt fuzz fuzz-quick image bench-quick bench-scale bench-held

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: ## HTTPS on loopback for two small backends, with nothing installed
	cargo build --bin portolan
	@exec $(built)/debug/portolan demo

test: ## everything; as root on Debian the tests with real engines as well
	tests/run

fuzz: ## looks for input that breaks a rule, 15 minutes a target; what it learns goes to fuzz/corpus
	fuzz/run

fuzz-quick: ## the same for 10 seconds each, and nothing is kept
	fuzz/run --replay 10

lint: ## formatting and clippy
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

fmt: ## formats the sources
	cargo fmt

image: ## the release binary as the image portolan:local
	cargo build --release --bin portolan
	rm -rf $(context)
	mkdir -p $(context)/etc/ssl/certs $(context)/state
	mkdir -m 700 $(context)/state/portolan
	cp $(built)/release/portolan $(context)/portolan
	$(if $(ca_bundle),cp -L $(ca_bundle) $(context)/etc/ssl/certs/ca-certificates.crt)
	DOCKER_BUILDKIT=1 $(builder) build --tag portolan:local --file Dockerfile --build-arg BIN=prebuilt $(context)

bench-quick: ## what a request costs nginx, HAProxy and Portolan; under 4 minutes after the build
	cargo build --release --bin portolan
	bench/quick $(built)/release/portolan

bench-scale: ## what 10,000 routes cost: start, memory, requests, changes; about 4 minutes after the build
	cargo build --release --bin portolan
	bench/scale $(built)/release/portolan

bench-held: ## a hundred WebSockets across 1,000 changes of 10,000 routes; some minutes after the build
	cargo build --release --bin portolan
	bench/held $(built)/release/portolan
