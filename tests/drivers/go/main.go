// Driver of franz-go. See ../README.md for the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const operation = 30 * time.Second

type header [2]*string

type record struct {
	Key       *string  `json:"k"`
	Value     *string  `json:"v"`
	Timestamp *int64   `json:"t"`
	Headers   []header `json:"h"`
}

type place struct {
	Offset *int64 `json:"offset"`
	Time   *int64 `json:"time"`
}

// request has every field that any operation takes.
type request struct {
	Op         string            `json:"op"`
	Topic      string            `json:"topic"`
	Topics     []string          `json:"topics"`
	Partition  *int32            `json:"partition"`
	Partitions json.RawMessage   `json:"partitions"`
	Config     map[string]string `json:"config"`
	Codec      string            `json:"codec"`
	Acks       string            `json:"acks"`
	Idempotent bool              `json:"idempotent"`
	Records    []record          `json:"records"`
	From       place             `json:"from"`
	Count      int               `json:"count"`
	Timestamp  int64             `json:"timestamp"`
	Before     int64             `json:"before"`
	Group      string            `json:"group"`
	SessionMs  int               `json:"session_ms"`
	Instance   *string           `json:"instance"`
	ForMs      int               `json:"for_ms"`
}

type answer map[string]any

func decode(text *string) []byte {
	if text == nil {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		panic(err)
	}
	if data == nil {
		data = []byte{}
	}
	return data
}

func encode(data []byte) *string {
	if data == nil {
		return nil
	}
	text := base64.StdEncoding.EncodeToString(data)
	return &text
}

func nameOf(err error) string {
	var kafka *kerr.Error
	if errors.As(err, &kafka) {
		return kafka.Message
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "DEADLINE_EXCEEDED"
	}
	return fmt.Sprintf("%v", err)
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/twmb/franz-go" {
			return module.Version
		}
	}
	return "?"
}

func main() {
	driver := &driver{bootstrap: os.Args[1], producers: map[string]*kgo.Client{}}
	out := json.NewEncoder(os.Stdout)
	can := []string{"produce", "read", "offset_at", "watermarks", "partitions", "create", "delete", "grow", "join",
		"committed", "delete_records", "idempotence", "create_on_produce",
		"codec:none", "codec:gzip", "codec:snappy", "codec:lz4", "codec:zstd"}
	out.Encode(answer{"client": "franz-go", "version": version(), "can": can})

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		told, err := driver.serve(&asked)
		if err != nil {
			fmt.Fprintln(os.Stderr, asked.Op, err)
			told = answer{"error": nameOf(err)}
		}
		out.Encode(told)
	}
}
