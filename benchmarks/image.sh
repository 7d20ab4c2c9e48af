#!/usr/bin/env bash
# Build the Dockerfile and try the image, where there is neither a registry nor Docker.
#
#   sudo benchmarks/image.sh [FOLDER]
#
# Needs root, Debian's packages debootstrap and buildah, 25 GB of disk for as long as it runs, and
# this machine's way to the package indexes. The base image is Debian 12 by debootstrap with its
# own Python 3.11 and pip; it stands in for the Dockerfile's python:3.11-slim-bookworm.
# It says how long the build takes and how large the image is, builds again after an edit of README.md,
# imports what the extras bring, and runs a small pipeline as a user whom the image does not know.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${1:-/var/tmp}/image.XXXXXX")
export TMPDIR=$work/tmp BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$work/storage.conf
base=localhost/base image=localhost/deepsort-reid uid=12345
mkdir "$TMPDIR"
cat >"$CONTAINERS_STORAGE_CONF" <<END
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
END

clean() {
    buildah umount --all >"$work/log" 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

# Print a title, run a command with its output in a file, and print the seconds that it took.
timed() {
    local title=$1 started=$SECONDS
    shift
    "$@" >"$work/log" 2>&1 || { tail -n 40 "$work/log"; exit 1; }
    echo "$title: $((SECONDS - started)) s"
}

make_base() {
    debootstrap --variant=minbase \
        --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$work/debian"
    ln -s /usr/bin/python3 "$work/debian/usr/local/bin/python"
    rm "$work/debian/usr/lib/python3.11/EXTERNALLY-MANAGED"
    rm -rf "$work"/debian/var/cache/apt/archives/*.deb "$work"/debian/var/lib/apt/lists/*
    # The certificates of this machine's network, which may have a proxy.
    certificates=/etc/ssl/certs/ca-certificates.crt
    cp "$certificates" "$work/debian$certificates"
    container=$(buildah from scratch)
    buildah add "$container" "$work/debian" /
    buildah config --env SSL_CERT_FILE="$certificates" "$container"
    buildah commit "$container" "$base"
    buildah rm "$container"
    rm -rf "$work/debian"
}

build() {
    buildah bud --layers --pull-never --build-arg BASE="$base" --tag "$image" "$work/context"
}

# What the Dockerfile is built from, so that README.md can be edited.
context() {
    git -C "$root" ls-files -z | (cd "$root" && xargs -0 tar cf -) | tar xf - -C "$work/context"
}

# Run a command in the image as $uid, with $work/project as the volume.
in_image() {
    buildah run --user "$uid:$uid" --volume "$work/project:/project" "$container" -- "$@"
}

mkdir "$work/context" && context
timed "base" make_base
timed "build" build
echo "An edit." >>"$work/context/README.md"
timed "build again after an edit of README.md" build
grep --before-context=1 "Using cache" "$work/log" | sed --quiet 's/.*STEP [^:]*: /  from the cache: /p'
echo "size: $(buildah images --format '{{.Size}}' "$image")"

mkdir "$work/project"
cp -r "$work"/context/. "$work/project"
git -C "$work/project" init --quiet
chown -R "$uid:$uid" "$work/project"
container=$(buildah from --pull-never "$image")
buildah config --volume /project- "$container" # which would lie over the one below
in_image python -c "import boto3, dvc_s3, psycopg, s3fs; print('s3 and postgres are there')"
in_image python -c "from importlib.metadata import metadata
assert 'An edit.' in metadata('deepsort-reid').get_payload()
print('the edit is in the image')"
in_image deepsort-reid recipe quick
timed "dvc repro of the recipe quick, user $uid" in_image dvc repro
in_image dvc metrics show
