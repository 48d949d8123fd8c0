package config

import "testing"

func TestParseBucket(t *testing.T) {
	b, err := ParseBucket("s3://depots/clinique/?endpoint=https://s3.example:9000&region=fr-par&key=AK&secret=a+b/c%3Dd%20e&ca=/etc/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if b.Secret.Reveal() != "a+b/c=d e" {
		t.Error("the secret is not what was written")
	}
	b.Secret = ""
	if want := (Bucket{Name: "depots", Prefix: "clinique/", Endpoint: "https://s3.example:9000", Region: "fr-par", Key: "AK", CA: "/etc/ca.pem"}); b != want {
		t.Errorf("got %+v, want %+v", b, want)
	}
	for _, bad := range []string{"", "s3://", "https://s3.example/depots", "s3://depots", "s3://depots?endpoint=https://h&region=r&key=k", "s3://depots?endpoint=https://h&region=r&key=k&secret=s&acl=public",
		"s3://depots?endpoint=https://h&region=r&key=k&secret=%zz", "s3://depots?endpoint=https://h&region=r&key=k&key=l&secret=s", "s3://k:s@depots?endpoint=https://h&region=r&key=k&secret=s"} {
		if _, err := ParseBucket(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// No connection string is taken that leads across a network to a server that proves nothing.
func TestSharedDatabase(t *testing.T) {
	for url, ok := range map[string]bool{
		"postgres://u:p@db.test/d?sslmode=verify-full":                   true,
		"postgres://u:p@db.test/d?sslmode=verify-ca&sslrootcert=/ca.pem": true,
		"postgres://u:p@127.0.0.1:5432/d":                                true,
		"postgres:///d?host=/run/postgresql":                             true,
		"postgres://u:p@db.test/d?sslmode=verify-ca":                     false,
		"postgres://u:p@db.test/d?sslmode=require":                       false,
		"postgres://u:p@db.test/d?sslmode=verify-full&sslmode=disable":   false,
		"postgres://u:p@127.0.0.1,db.test/d":                             false,
		"postgres://u:p@localhost:5432,db.test:5432/d":                   false,
		"postgres:///d?host=/run/postgresql,db.test":                     false,
		"postgres:///d?service=clinic":                                   false,
	} {
		if fault := databaseFault(url); (fault == "") != ok {
			t.Errorf("%s: %q", url, fault)
		}
	}
}
