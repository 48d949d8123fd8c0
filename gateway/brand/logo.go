package brand

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg" // what a logo may be
	"image/png"
	"io"
	"os"
)

const (
	maxLogoFile            = 512 << 10
	maxLogoWide, maxLogoHi = 1200, 400
)

// loadLogo makes a new PNG of the picture: what else was in the file (where it was taken, a script in an SVG, a second file behind the
// first) goes nowhere. SVG is refused: it is a program.
func (b *Brand) loadLogo(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxLogoFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if len(raw) > maxLogoFile {
		return fmt.Errorf("%s is larger than %d KiB", path, maxLogoFile>>10)
	}
	size, _, err := image.DecodeConfig(bytes.NewReader(raw)) // before its pixels take room
	if err != nil {
		return fmt.Errorf("%s is no PNG and no JPEG: %w", path, err)
	}
	if size.Width > maxLogoWide || size.Height > maxLogoHi || size.Width < 1 || size.Height < 1 {
		return fmt.Errorf("%s has %d x %d pixels: at most %d x %d, for it is shown 40 pixels high", path, size.Width, size.Height, maxLogoWide, maxLogoHi)
	}
	m, _, err := image.Decode(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("read picture %s: %w", path, err)
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, m); err != nil {
		return fmt.Errorf("write picture %s: %w", path, err)
	}
	b.Logo, b.LogoWidth, b.LogoHeight = out.Bytes(), size.Width, size.Height
	return nil
}
