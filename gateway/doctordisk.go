package gateway

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	diskWarns = 1 << 30   // octets free in the state folder
	diskFails = 100 << 20 // the ledger writes with every message
)

// disk looks at the state folder, the temp folder and the server key: room, and who may read.
func (d *doctor) disk(_ context.Context, s *sheet) {
	dir := d.cfg.StateDir
	st, err := os.Stat(dir)
	if err != nil {
		s.fail(dir, err.Error(), "make it, mode 0700, of the service's user; the gateway makes it at its start")
		return
	}
	d.freeIn(s, dir, diskWarns, diskFails)
	if st.Mode().Perm()&0o077 != 0 {
		s.fail(dir, fmt.Sprintf("others may look into it (mode %04o)", st.Mode().Perm()), "chmod 0700 "+dir)
	}
	if err := syscall.Access(dir, 7); err != nil {
		s.fail(dir, "whoever runs this may not write into it: "+err.Error(), "run the doctor as the service's user: runuser -u passerelle -- passerelle doctor")
	}
	d.readByOthers(s, dir)
	temp := os.TempDir()
	d.freeIn(s, temp, uint64(d.cfg.Limits.Spill), uint64(d.cfg.Limits.Message))
	key := d.cfg.KeyFile
	if key == "" {
		key = filepath.Join(dir, "server.key")
	}
	switch st, err := os.Stat(key); {
	case notExist(err) && d.cfg.KeyFile == "":
		s.ok(key, "will be made at the first start")
	case err != nil:
		s.warn(key, "the server key cannot be looked at: "+err.Error(), "systemd may hand it to the service alone; else look at key_file")
	case st.Mode().Perm()&0o077 != 0:
		s.fail(key, fmt.Sprintf("others may read the server key (mode %04o)", st.Mode().Perm()), "chmod 0600 "+key)
	default:
		s.ok(key, "the server key is its user's alone")
	}
}

// freeIn compares what is free with two limits in octets.
func (d *doctor) freeIn(s *sheet, dir string, warns, fails uint64) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		s.fail(dir, "free space unknown: "+err.Error(), "look at the disk")
		return
	}
	free := st.Bavail * uint64(st.Bsize)
	said := size(free) + " free"
	switch {
	case free < fails:
		s.fail(dir, said, fmt.Sprintf("make room: below %s mail waits (452)", size(fails)))
	case free < warns:
		s.warn(dir, said, "make room: "+size(warns)+" should be free")
	case st.Files > 0 && st.Ffree*100 < st.Files:
		s.warn(dir, fmt.Sprintf("%s, but %d of %d files left", said, st.Ffree, st.Files), "remove small files")
	default:
		s.ok(dir, "%s", said)
	}
}

func size(n uint64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// readByOthers names what lies in the state folder and may be read by others; the folder's own mode guards it today and a backup's tomorrow.
func (d *doctor) readByOthers(s *sheet, dir string) {
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && notExist(err): // the gateway works there
			return nil
		case err != nil:
			return err
		case path == dir:
			return nil
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&fs.ModeSymlink == 0 {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		if e.IsDir() && e.Name() == "deposits" { // thousands of files behind its own mode
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		s.warn(dir, "cannot be looked through: "+err.Error(), "run the doctor as the service's user")
	}
	if len(names) > 0 {
		more := ""
		if n := len(names) - 3; n > 0 {
			names, more = names[:3], fmt.Sprintf(" and %d more", n)
		}
		s.warn(dir, "others may read "+strings.Join(names, ", ")+more, "chmod -R go-rwx "+dir)
	}
}
