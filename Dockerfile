# A static binary, the public authorities' certificates and two folders, nothing else; no shell, no root.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN mkdir -p /out/state /out/tmp && chmod 700 /out/state /out/tmp
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/passerelle ./cmd/passerelle

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/passerelle /passerelle
COPY --from=build --chown=65532:65532 /out/state /var/lib/passerelle
# Large messages in hand go to encrypted files without a name; a tmpfs is the best place for them.
COPY --from=build --chown=65532:65532 /out/tmp /tmp
USER 65532:65532
VOLUME /var/lib/passerelle
EXPOSE 10024 10025 8443 9464
ENTRYPOINT ["/passerelle"]
CMD ["serve", "--config", "/etc/passerelle/passerelle.yaml"]
