package gitserver

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

const maxPkt = 65520 // bytes of a pkt-line, its length included (gitprotocol-common)

var errPkt = errors.New("malformed pkt-line")

// readPkt returns the content of the next pkt-line, nil for a flush-pkt.
func readPkt(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	if err != nil || head[0] == '+' {
		return nil, fmt.Errorf("%w: length %q", errPkt, head[:])
	}
	switch {
	case n == 0:
		return nil, nil
	case n < 4 || n > maxPkt:
		return nil, fmt.Errorf("%w: length %d", errPkt, n)
	}
	data := make([]byte, n-4)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("%w: %w", errPkt, err)
	}
	return data, nil
}

// readPkts returns the content of all pkt-lines before the next flush-pkt, at most limit of them.
func readPkts(r io.Reader, limit int) ([]string, error) {
	var list []string
	for {
		data, err := readPkt(r)
		if err != nil {
			return nil, err
		}
		if data == nil {
			return list, nil
		}
		if len(list) == limit {
			return nil, fmt.Errorf("%w: more than %d before a flush", errPkt, limit)
		}
		list = append(list, string(data))
	}
}

// writePkt writes one pkt-line; what is too long for it is cut.
func writePkt(w io.Writer, line string) error {
	line = line[:min(len(line), maxPkt-4)]
	_, err := fmt.Fprintf(w, "%04x%s", len(line)+4, line)
	return err
}

func writeFlush(w io.Writer) error {
	_, err := io.WriteString(w, "0000")
	return err
}
