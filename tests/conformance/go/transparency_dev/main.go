// Judges our text proofs and our consistency proofs with transparency-dev's packages formats/proof and merkle/proof.
//
// Each line of standard input is a question, each line of standard output its answer:
//
//	{"proof": text, "vkey": text, "body": data}
//	{"oldSize": n, "oldRoot": ..., "size": n, "root": ..., "path": [...]}
//
// with byte strings in base64. The answer is {"accepted": true} or {"accepted": false, "message": ...}.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	formats "github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

type question struct {
	Proof   string
	VKey    string
	Body    []byte
	OldSize uint64
	OldRoot []byte
	Size    uint64
	Root    []byte
	Path    [][]byte
}

type answer struct {
	Accepted bool   `json:"accepted"`
	Message  string `json:"message,omitempty"`
}

func checkProof(q question) error {
	var parsed formats.TLogProof
	if err := parsed.Unmarshal([]byte(q.Proof)); err != nil {
		return err
	}
	verifier, err := note.NewVerifier(q.VKey)
	if err != nil {
		return err
	}
	opened, err := note.Open(parsed.Checkpoint, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return err
	}
	path := make([][]byte, len(parsed.Hashes))
	for i := range parsed.Hashes {
		path[i] = parsed.Hashes[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(q.Body)
	return merkle.VerifyInclusion(rfc6962.DefaultHasher, parsed.Index, size, leaf, path, root)
}

func main() {
	questions, answers := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for questions.More() {
		var q question
		if err := questions.Decode(&q); err != nil {
			panic(err)
		}
		var err error
		if q.Proof != "" {
			err = checkProof(q)
		} else {
			err = merkle.VerifyConsistency(rfc6962.DefaultHasher, q.OldSize, q.Size, q.Path, q.OldRoot, q.Root)
		}
		result := answer{Accepted: err == nil}
		if err != nil {
			result.Message = err.Error()
		}
		if err := answers.Encode(result); err != nil {
			panic(err)
		}
	}
}
