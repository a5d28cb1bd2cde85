package scanner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/anchore/grype/grype/vulnerability"
)

// Database says which vulnerability database there is. It is kept beside the database, in about.json.
type Database struct {
	Built    time.Time `json:"built,omitzero"`
	Checksum string    `json:"checksum,omitempty"` // sha256 of what was imported
	Source   string    `json:"source,omitempty"`
	Schema   string    `json:"schema,omitempty"`
	Size     int64     `json:"size,omitempty"` // bytes of vulnerability.db
	Imported time.Time `json:"imported,omitzero"`
	Missing  string    `json:"missing,omitempty"` // why there is none
}

const (
	currentName = "current"    // link to the folder of the database in use
	aboutName   = "about.json" // Database
)

// Status reads which database a folder holds. A folder without one is no error: Missing says why.
func Status(dir string) Database {
	db, err := readAbout(dir)
	switch {
	case dir == "":
		return Database{Missing: "no vulnerability database is configured"}
	case errors.Is(err, fs.ErrNotExist):
		return Database{Missing: "no vulnerability database was imported"}
	case err != nil:
		return Database{Missing: fmt.Sprintf("the vulnerability database cannot be read: %v; import it again", err)}
	}
	return db
}

func readAbout(dir string) (Database, error) {
	base := filepath.Join(dir, currentName)
	data, err := os.ReadFile(filepath.Join(base, aboutName))
	if err != nil {
		return Database{}, err
	}
	var db Database
	if err := json.Unmarshal(data, &db); err != nil {
		return Database{}, fmt.Errorf("%s: %w", aboutName, err)
	}
	info, err := os.Stat(filepath.Join(base, v6.VulnerabilityDBFileName))
	if err != nil {
		return Database{}, fmt.Errorf("%s is there and the database is not", aboutName)
	}
	if info.Size() != db.Size {
		return Database{}, fmt.Errorf("it has %d bytes and not %d, as it had when it was imported", info.Size(), db.Size)
	}
	return db, nil
}

// opened is the database that scans share.
type opened struct {
	mu       sync.Mutex
	folder   string // what current pointed to
	db       Database
	reader   v6.Reader
	provider vulnerability.Provider
}

// open returns the database of a folder, nil when there is none. One that was replaced stays open until the
// process ends: a scan may still use it.
func (o *opened) open(dir string) (vulnerability.Provider, Database) {
	o.mu.Lock()
	defer o.mu.Unlock()
	db := Status(dir)
	if db.Missing != "" {
		return nil, db
	}
	folder, err := filepath.EvalSymlinks(filepath.Join(dir, currentName))
	if err != nil {
		return nil, Database{Missing: fmt.Sprintf("the vulnerability database cannot be read: %v", err)}
	}
	if o.provider != nil && o.folder == folder && o.db == db {
		return o.provider, db
	}
	reader, err := v6.NewReader(v6.Config{DBDirPath: folder})
	if err != nil {
		return nil, Database{Checksum: db.Checksum, Missing: fmt.Sprintf("the vulnerability database cannot be read: %s; import it again", oneLine(err.Error(), 300))}
	}
	o.folder, o.db, o.reader, o.provider = folder, db, reader, v6.NewVulnerabilityProvider(reader)
	return o.provider, db
}

// folderName is a database's own folder: short, and without characters that SQLite's file names know.
func folderName(checksum string) string {
	return "db-" + strings.TrimPrefix(checksum, "sha256:")[:24]
}
