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
