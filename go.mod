module passerelle

go 1.26.0

require (
	filippo.io/age v1.3.2 // seals a deposit: authenticated 64 KiB segments, read from the middle (design, "The vault")
	github.com/ProtonMail/go-crypto v1.5.2 // OpenPGP (RFC 9580), kept by Proton
	github.com/alecthomas/kong v1.17.0 // command line with good help
	github.com/caddyserver/certmagic v0.25.6 // the portal's certificate by ACME, where it is switched on: renewal, back-off and both proofs, in use at scale
	github.com/chromedp/cdproto v0.159.0 // tests only: comes with chromedp, its downloads and screens
	github.com/chromedp/chromedp v0.23.0 // tests only: walks the patient's pages in Chromium
	github.com/coreos/go-oidc/v3 v3.21.0 // OpenID Connect: verifies what FranceConnect and Pro Santé Connect sign
	github.com/coreos/go-systemd/v22 v22.7.0 // systemd: sockets that it hands over, sd_notify; kept by its authors, needs x/sys alone of us
	github.com/emersion/go-imap/v2 v2.0.0-beta.8 // IMAP client: v1 reads each literal into one slice of the size that the server names, and nests lists without end; v2 streams. Its lines are unbounded: gateway/collect bounds them below it
	github.com/emersion/go-msgauth v0.7.0 // DKIM: signs what leaves, streaming; tests verify with it
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // EXTERNAL and OAUTHBEARER; no release is tagged
	github.com/emersion/go-smtp v0.25.1 // SMTP and LMTP server
	github.com/expr-lang/expr v1.17.8 // typed `when:` expressions of the policy
	github.com/go-jose/go-jose/v4 v4.1.9 // tests only: forges tokens; comes with go-oidc
	github.com/go-ldap/ldap/v3 v3.4.15 // a clinic's or a region's directory
	github.com/goccy/go-yaml v1.19.2 // config with line and column in every fault
	github.com/google/go-cmp v0.7.0 // tests only: readable differences
	github.com/hashicorp/go-retryablehttp v0.7.8 // the SMS provider's API
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL, where several gateways share their deposits; pure Go, and what River's driver stands on
	github.com/klauspost/compress v1.20.3 // deflate that gives up early on what is compressed already
	github.com/microcosm-cc/bluemonday v1.0.27 // a patient's page shows HTML mail, sanitised
	github.com/minio/minio-go/v7 v7.4.1 // S3, for their payloads: a program that opens a bucket is 7.5 MB and 59 packages with it, 22 MB and 291 with gocloud.dev and the AWS library; any S3 server, no checksum trailers
	github.com/pdfcpu/pdfcpu v0.15.0 // reads a PDF into its objects, with limits and a context; crypto/pdf writes them encrypted by itself
	github.com/prometheus/client_golang v1.25.0 // /metrics
	github.com/prometheus/client_model v0.6.3 // comes with client_golang: the operator's page reads the numbers
	github.com/riverqueue/river v0.51.1 // the queue of duties in the background: retries, unique jobs, rescue after a crash (design, "One durable thing")
	github.com/riverqueue/river/riverdriver/riverpgxv5 v0.51.1 // River on PostgreSQL, one queue for several gateways
	github.com/riverqueue/river/riverdriver/riversqlite v0.51.1 // River on SQLite
	github.com/riverqueue/river/rivertype v0.51.1 // its words
	github.com/rogpeppe/go-internal v1.16.0 // tests only: testscript drives the real binary
	github.com/zitadel/oidc/v3 v3.51.17 // tests only: a certified OpenID provider on loopback
	go.uber.org/goleak v1.3.0 // tests only: goroutines without an owner
	go.uber.org/zap v1.28.0 // comes with certmagic: its lines go to our log
	golang.org/x/crypto v0.58.0 // argon2id, HKDF, OCSP
	golang.org/x/image v0.47.0 // the Go font (BSD, may be embedded; Latin, Greek, Cyrillic) of the PDF form; comes with pdfcpu
	golang.org/x/net v0.62.0 // IDNA: domains compared as A-labels; DNS messages of the name server in tests
	golang.org/x/oauth2 v0.37.0 // redeems their codes; go-oidc needs it
	golang.org/x/sys v0.49.0 // statx without times: stat makes the next fsync dearer; prctl for timer slack
	golang.org/x/text v0.43.0 // Unicode normal forms of names
	golang.org/x/time v0.16.0 // token buckets of the portal
	modernc.org/sqlite v1.61.1 // embedded database without cgo
	pgregory.net/rapid v1.3.0 // tests only: properties
	software.sslmate.com/src/go-pkcs12 v0.7.4 // the clinic's private key as its authority hands it out (.p12): the ciphers of old and new Windows, OpenSSL and NSS; its only need is x/crypto
)

require (
	filippo.io/hpke v0.4.0 // indirect
	github.com/Azure/go-ntlmssp v0.1.1 // indirect
	github.com/aymerick/douceur v0.2.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/bmatcuk/doublestar/v4 v4.10.4 // indirect
	github.com/caddyserver/zerossl v0.1.6 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/emersion/go-message v0.18.2 // indirect
	github.com/go-asn1-ber/asn1-ber v1.5.8 // indirect
	github.com/go-chi/chi/v5 v5.5.0 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-logr/logr v1.4.4 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/gorilla/css v1.0.1 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hhrutter/tiff v1.0.6 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/crc32 v1.3.0 // indirect
	github.com/libdns/libdns v1.1.1 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mholt/acmez/v3 v3.1.7 // indirect
	github.com/miekg/dns v1.1.73 // indirect
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/minio/md5-simd v1.1.2 // indirect
	github.com/muhlemmer/gu v0.3.1 // indirect
	github.com/muhlemmer/httpforwarded v0.1.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/riverqueue/river/riverdriver v0.51.1 // indirect
	github.com/riverqueue/river/rivershared v0.51.1 // indirect
	github.com/rs/cors v1.11.1 // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/tidwall/gjson v1.20.0 // indirect
	github.com/tidwall/match v1.2.0 // indirect
	github.com/tidwall/pretty v1.2.1 // indirect
	github.com/tidwall/sjson v1.2.5 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	github.com/zitadel/schema v1.3.2 // indirect
	go.opentelemetry.io/auto/sdk v1.2.1 // indirect
	go.opentelemetry.io/otel v1.46.0 // indirect
	go.opentelemetry.io/otel/metric v1.46.0 // indirect
	go.opentelemetry.io/otel/trace v1.46.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap/exp v0.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
	gopkg.in/ini.v1 v1.67.3 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)
