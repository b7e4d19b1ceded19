#!/usr/bin/env python3
"""Records what buildx prints when it is asked instead of made to build.

usage: record.py DOCKER FILE

Runs every `--- call CODE FLAGS` of the file by `DOCKER buildx build` in a folder that has
each case's context under its name, and writes its exit code and stdout there. The daemon
must have the image busybox. Cases marked `as: ours` are left alone.
"""
import os, re, subprocess, sys, tempfile


def main():
    docker, path = sys.argv[1:]
    folder = tempfile.mkdtemp()
    out = []
    for chunk in re.split(r"^=== ", open(path).read(), flags=re.M)[1:]:
        head, *sections = re.split(r"^--- ", chunk, flags=re.M)
        name = head.split(":")[0]
        os.makedirs(f"{folder}/{name}")
        text = "=== " + head
        for section in sections:
            title, _, body = section.partition("\n")
            if title.startswith("call ") and "as: ours" not in head:
                words = title.split(" ")[2:]
                ran = subprocess.run([docker, "buildx", "build", *words], cwd=folder, capture_output=True, text=True)
                title, body = f"call {ran.returncode} {' '.join(words)}", ran.stdout
            elif not title.startswith("call "):
                body = body if section is not sections[-1] else body.rstrip("\n") + "\n"
                file = "Dockerfile" if title == "Dockerfile" else title.split(" ")[1]
                with open(f"{folder}/{name}/{file}", "w") as f:
                    f.write(body)
            else:
                body = body.rstrip("\n") + "\n"
            text += f"--- {title}\n{body}"
        out.append(text)
    open(path, "w").write("\n".join(out))


if __name__ == "__main__":
    main()
