package deploy_test

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// dockerfile is what this test understands of the Dockerfile: enough for ours, and it fails on anything else.
type dockerfile struct {
	runs             []string // of the build stage
	copies           [][2]string
	owned            map[string]string
	user, entrypoint string
}

func readDockerfile(t *testing.T, path string) dockerfile {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := dockerfile{owned: map[string]string{}}
	scratch := false
	for line := range strings.Lines(string(b)) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "FROM":
			scratch = rest == "scratch"
		case "RUN":
			if scratch {
				t.Fatalf("nothing can run in an empty image: %s", line)
			}
			d.runs = append(d.runs, rest)
		case "COPY":
			f := strings.Fields(rest)
			if !scratch {
				continue // the sources are here already
			}
			if f[0] != "--from=build" {
				t.Fatalf("the image must hold what was built alone: %s", line)
			}
			f = f[1:]
			owner, chown := strings.CutPrefix(f[0], "--chown=")
			if chown {
				f = f[1:]
				d.owned[f[1]] = owner
			}
			d.copies = append(d.copies, [2]string{f[0], f[1]})
		case "USER":
			d.user = rest
		case "ENTRYPOINT":
			var e []string
			if err := json.Unmarshal([]byte(rest), &e); err != nil || len(e) != 1 {
				t.Fatalf("ENTRYPOINT %s: %v", rest, err)
			}
			d.entrypoint = e[0]
		case "", "#", "WORKDIR", "ARG", "VOLUME", "EXPOSE", "CMD":
		default:
			t.Fatalf("Dockerfile: %q is unknown to this test", word)
		}
	}
	return d
}

// TestDockerfileSteps performs the Dockerfile's steps without an engine: the build, the copies into an empty root, the user, the
// entry point.
func TestDockerfileSteps(t *testing.T) {
	if testing.Short() {
		t.Log("building the whole binary is left to the full run")
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("needs root: the binary runs in a chroot as another user")
	}
	d := readDockerfile(t, filepath.Join("..", "Dockerfile"))
	root, out := t.TempDir(), t.TempDir()
	// t.TempDir is root's alone; the image's user must be able to walk in.
	for _, dir := range []string{root, filepath.Dir(root)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, run := range d.runs {
		if run == "go mod download" { // the module cache is warm here
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(run, "/out/", out+"/"))
		cmd.Dir, cmd.Env = "..", append(os.Environ(), "VERSION=v0.0.0-chroot")
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", run, err, b)
		}
	}
	for _, c := range d.copies {
		from, to := strings.Replace(c[0], "/out/", out+"/", 1), filepath.Join(root, c[1])
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if b, err := exec.CommandContext(t.Context(), "cp", "-rL", from, to).CombinedOutput(); err != nil {
			t.Fatalf("COPY %s: %v: %s", c[0], err, b)
		}
		if owner := d.owned[c[1]]; owner != "" {
			if b, err := exec.CommandContext(t.Context(), "chown", owner, to).CombinedOutput(); err != nil {
				t.Fatalf("chown %s: %v: %s", owner, err, b)
			}
		}
	}
	static(t, filepath.Join(root, d.entrypoint))

	uid, gid, ok := strings.Cut(d.user, ":")
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if !ok || err1 != nil || err2 != nil || u == 0 || g == 0 {
		t.Fatalf("USER %q: want numbers, and no root", d.user)
	}
	cmd := exec.CommandContext(t.Context(), d.entrypoint, "version")
	cmd.Path, cmd.Err = d.entrypoint, nil // as it stands inside
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}}
	b, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("version as uid %d in an empty root: %v\n%s\n%s", u, err, b, tree(root))
	}
	if !strings.Contains(string(b), "v0.0.0-chroot") {
		t.Errorf("version said %q, want the version that was built in", b)
	}
}

// static: no interpreter, so no library of the system is wanted.
func static(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Fatal("the binary is not static")
		}
	}
}

func tree(root string) string {
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, i.Mode(), strings.TrimPrefix(p, root))
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}
