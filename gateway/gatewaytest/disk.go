package gatewaytest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Disk is a small ext4 file system on a loop device, with a state folder on it. What its page cache holds and nobody
// synced is in no file: a copy of the backing file is what a power cut leaves.
type Disk struct {
	mount  string
	images string // folder
	now    string // backing file in use
	cuts   int
}

// NewDisk mounts an empty disk of 256 MiB at mount; its images lie in a folder of their own. It needs root and loop devices.
func NewDisk(mount, images string) (*Disk, error) {
	d := &Disk{mount: mount, images: images, now: filepath.Join(images, "0.img")}
	if err := os.MkdirAll(images, 0o700); err != nil {
		return nil, fmt.Errorf("images of the disk: %w", err)
	}
	f, err := os.Create(d.now)
	if err != nil {
		return nil, fmt.Errorf("image of the disk: %w", err)
	}
	if err := errors.Join(f.Truncate(256<<20), f.Close()); err != nil {
		return nil, fmt.Errorf("image of the disk: %w", err)
	}
	if err := command("mkfs.ext4", "-q", d.now); err != nil {
		return nil, err
	}
	return d, d.attach()
}

func (d *Disk) attach() error { return command("mount", "-o", "loop", d.now, d.mount) }

// Cut takes what the device holds at this instant, forgets the rest and comes back with that. ext4 replays its journal at the mount.
func (d *Disk) Cut() error {
	d.cuts++
	next := filepath.Join(d.images, fmt.Sprint(d.cuts, ".img"))
	if err := command("cp", "--sparse=always", d.now, next); err != nil {
		return err
	}
	if err := command("umount", d.mount); err != nil { // flushes into the file that nobody will read again
		return err
	}
	if err := os.Remove(d.now); err != nil {
		return fmt.Errorf("image of the disk: %w", err)
	}
	d.now = next
	return d.attach()
}

// Close takes the disk off its folder.
func (d *Disk) Close() error { return command("umount", d.mount) }

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
