package adapters

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://
)

// OpenStore opens the store at a URL: file:///folder, s3://bucket?region=…, gs://bucket, azblob://container, as
// gocloud.dev/blob reads them, or mem://, which ends with the store. A folder within a bucket is a path, s3://bucket/folder,
// or &prefix=folder/. What has no scheme is a local folder, which is made where it is missing. Access to a cloud comes from
// its own environment.
//
// S3, GCS and Azure are in programs that are built with the tag cloud.
func OpenStore(ctx context.Context, where string) (*Store, error) {
	address, err := storeURL(where)
	if err != nil {
		return nil, fmt.Errorf("open the store of adapters: %w", err)
	}
	if mux := blob.DefaultURLMux(); !mux.ValidBucketScheme(address.Scheme) {
		hint := "want a folder, file:///folder, s3://bucket, gs://bucket or azblob://container"
		if clouds[address.Scheme] {
			hint = "it is in programs that are built with: go build -tags cloud"
		}
		return nil, fmt.Errorf("open the store of adapters at %s: this program knows no %s: %s", address.Redacted(), address.Scheme, hint)
	}
	bucket, err := blob.OpenBucket(ctx, address.String())
	if err != nil {
		return nil, fmt.Errorf("open the store of adapters at %s: %w", address.Redacted(), err)
	}
	s := &Store{bucket: bucket}
	if address.Scheme == "file" {
		s.sync = syncPath
	}
	return s, nil
}

var clouds = map[string]bool{"s3": true, "gs": true, "azblob": true}

// storeURL is where a store is, with what local folders need: to be made, temporary files beside the final ones, since a
// file is not renamed from one disk to another, and no files of attributes beside the objects.
func storeURL(where string) (*url.URL, error) {
	if where == "" {
		return nil, fmt.Errorf("no folder and no URL is given")
	}
	if !strings.Contains(where, "://") {
		folder, err := filepath.Abs(where)
		if err != nil {
			return nil, err
		}
		where = (&url.URL{Scheme: "file", Path: filepath.ToSlash(folder)}).String()
	}
	address, err := url.Parse(where)
	if err != nil {
		return nil, fmt.Errorf("not a URL: want a folder, or one such as file:///folder or s3://bucket")
	}
	if address.Scheme == "file" {
		q := address.Query()
		for name, value := range map[string]string{"create_dir": "true", "no_tmp_dir": "true", "metadata": "skip"} {
			if !q.Has(name) {
				q.Set(name, value)
			}
		}
		address.RawQuery = q.Encode()
	}
	if folder := strings.Trim(address.Path, "/"); clouds[address.Scheme] && folder != "" { // whose clients would leave it out
		q := address.Query()
		q.Set("prefix", folder+"/"+q.Get("prefix"))
		address.Path, address.RawPath, address.RawQuery = "", "", q.Encode()
	}
	return address, nil
}
