# The static binary and nothing else; `make image` lays out what is copied here.
FROM scratch
ARG BIN=portolan
COPY etc /etc
COPY ${BIN} /portolan
EXPOSE 80 443
# The internal CA is in there: without a volume every new container would be a CA that nobody trusts.
VOLUME /var/lib/portolan
ENTRYPOINT ["/portolan"]
CMD ["run"]
