package directory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The files of the download in the state folder.
const (
	fetchName = "directory-fetch.json" // fetchState
	partName  = "directory-fetch.part" // what came of a file that is not whole yet, or was refused
	lastName  = "directory-fetch.last" // the last file that was taken
	fetchLock = "directory-fetch.lock"
)

// fetchState is what a download knows of the ones before it.
type fetchState struct {
	Source   string    `json:"source"`    // hash of the URL that the versions are of: it may hold a secret
	Last     version   `json:"last"`      // taken; kept as lastName
	Part     version   `json:"part"`      // of partName
	PartSize int64     `json:"part_size"` // bytes of partName that are known to lie on the disk
	Tried    time.Time `json:"tried"`
	Checked  time.Time `json:"checked"` // the last time that went well
	Next     time.Time `json:"next"`
	Failures int       `json:"failures"` // one after another
	Result   string    `json:"result"`   // as in passerelle_directory_fetched_total
	Fault    string    `json:"fault"`
}

// version names one content of the file at the source by all that the server tells of it.
type version struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
	Name         string `json:"name,omitempty"` // base name; the national service writes the minute of generation into it
	Length       int64  `json:"length,omitempty"`
}

func versionOf(r *http.Response) version {
	v := version{ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified"), Length: max(0, r.ContentLength)}
	if _, p, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil {
		v.Name = p["filename"]
	}
	if v.Name == "" {
		v.Name = r.Request.URL.Path
	}
	if v.Name = path.Base(strings.ReplaceAll(v.Name, `\`, "/")); !safeName(v.Name) {
		v.Name = "download"
	}
	if _, total, ok := contentRange(r); ok {
		v.Length = total
	}
	return v
}

// safeName: it goes into logs, errors and the mirror, never into a path.
func safeName(s string) bool {
	return s != "." && s != "/" && len(s) <= 120 && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e })
}

// same tells whether both are known to be one content; of two that say too little it says no.
func (v version) same(w version) bool {
	switch {
	case v.Length != 0 && w.Length != 0 && v.Length != w.Length:
		return false
	case v.ETag != "" && w.ETag != "":
		return strings.TrimPrefix(v.ETag, "W/") == strings.TrimPrefix(w.ETag, "W/")
	case v.LastModified != "" && w.LastModified != "":
		return v.LastModified == w.LastModified
	}
	return hasDate(v.Name) && v.Name == w.Name && v.Length == w.Length
}

// ifRange is the validator of RFC 9110 section 13.1.5: never a weak one. A dated name without it is compared in the answer.
func (v version) ifRange() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.LastModified
}

func (v version) resumable() bool { return v.ifRange() != "" || hasDate(v.Name) }

// date is the file's own date as far as the server tells it, zero where it does not.
func (v version) date() time.Time {
	t, _ := http.ParseTime(v.LastModified)
	return dateOf(v.Name, t)
}

// contentRange reads "bytes 0-9/10" (RFC 9110 section 14.4).
func contentRange(r *http.Response) (from, total int64, ok bool) {
	s, found := strings.CutPrefix(r.Header.Get("Content-Range"), "bytes ")
	span, all, cut := strings.Cut(s, "/")
	first, _, dash := strings.Cut(span, "-")
	from, err1 := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(all, 10, 64)
	return from, total, found && cut && dash && err1 == nil && err2 == nil && from >= 0 && total > from
}

func sourceKey(url string) string {
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}

// loadFetchState gives the empty state where there is none or where it cannot be read: then everything is fetched anew.
func loadFetchState(dir string) (st fetchState) {
	b, err := os.ReadFile(filepath.Join(dir, fetchName))
	if err != nil || json.NewDecoder(bytes.NewReader(b)).Decode(&st) != nil {
		return fetchState{}
	}
	return st
}

func (f *fetcher) save() (err error) {
	b, err := json.MarshalIndent(f.st, "", "  ")
	if err != nil {
		return fmt.Errorf("note the download: %w", err)
	}
	tmp := f.path(fetchName + ".new")
	if err = os.WriteFile(tmp, append(b, '\n'), 0o600); err == nil {
		if err = giveToOwner(tmp, f.dir); err == nil {
			err = os.Rename(tmp, f.path(fetchName))
		}
	}
	if err != nil {
		return fmt.Errorf("note the download: %w", err)
	}
	return nil
}

func (f *fetcher) forgetPart() {
	os.Remove(f.path(partName))
	f.st.Part, f.st.PartSize = version{}, 0
}
