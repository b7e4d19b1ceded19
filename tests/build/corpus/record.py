#!/usr/bin/env python3
"""Records what a real builder makes of the corpus.

usage: record.py DOCKER classic|buildkit BASE-IMAGE [FILE...]

Builds every case with the given docker program, the harness's busybox loaded there
as BASE-IMAGE, and writes the sections `out` and `config`. A case that both builders
have answered alike is marked `as: both`. Cases marked `as: ours` are left alone.
"""
import base64, io, json, os, re, shlex, shutil, subprocess, sys, tempfile

KEYS = ["User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
        "Healthcheck", "OnBuild", "Shell"]


def parse(text):
    cases = []
    for chunk in re.split(r"^=== ", text, flags=re.M)[1:]:
        head, *sections = re.split(r"^--- ", chunk, flags=re.M)
        title, *options = head.rstrip("\n").split("\n")
        case = {"title": title, "options": dict(o.split(": ", 1) for o in options if ": " in o), "sections": []}
        for section in sections:
            name, _, body = section.partition("\n")
            case["sections"].append([name, body])
        # The blank line between two cases is none of the last section.
        if case["sections"] and case["sections"][-1][1].endswith("\n\n"):
            case["sections"][-1][1] = case["sections"][-1][1][:-1]
        elif case["sections"] and case["sections"][-1][1] == "\n":
            case["sections"][-1][1] = ""
        cases.append(case)
    return cases


def write(cases):
    out = []
    for case in cases:
        lines = ["=== " + case["title"]] + [f"{k}: {v}" for k, v in case["options"].items()]
        out.append("\n".join(lines) + "\n" + "".join(f"--- {n}\n{b}" for n, b in case["sections"]))
    return "\n".join(out)


def lay_out(case, folder, base):
    times = []
    for name, body in case["sections"]:
        words = name.split()
        if words[0] == "Dockerfile":
            words = ["file", "Dockerfile"]
        if words[0] not in ("file", "base64", "link", "dir"):
            continue
        path = os.path.join(folder, words[1].replace("%20", " "))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if words[0] == "link":
            os.symlink(words[2], path)
            continue
        if words[0] == "dir":
            os.makedirs(path)
            continue
        if "ockerfile" in path:
            body = re.sub(r"((?:FROM|from|--platform=\S+) |--from=|NAME=)busybox(?=[:\s])", r"\1" + base, body)
        data = base64.b64decode(body) if words[0] == "base64" else body.encode()
        if "crlf" in words:
            data = data.replace(b"\n", b"\r\n")
        if "bom" in words:
            data = b"\xef\xbb\xbf" + data
        with open(path, "wb") as f:
            f.write(data)
        options = dict(w.split("=") for w in words[2:] if "=" in w)
        os.chmod(path, int(options.get("mode", "644"), 8))
        if "mtime" in options:
            times.append((path, int(options["mtime"])))
    for path, time in times:
        os.utime(path, (time, time))


def main():
    docker, builder, base, *files = sys.argv[1:]
    here = os.path.dirname(os.path.abspath(__file__))
    env = dict(os.environ, DOCKER_BUILDKIT="1" if builder == "buildkit" else "0")
    run = lambda args: subprocess.run([docker] + args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for file in files or sorted(f for f in os.listdir(here) if f.endswith(".txt")):
        path = os.path.join(here, file)
        cases = parse(open(path).read())
        for case in cases:
            answer(case, run, builder, base)
        open(path, "w").write(write(cases))


def answer(case, run, builder, base):
    name = case["title"].split(":")[0]
    marked = case["options"].get("as")
    if marked == "ours":
        return
    folder = tempfile.mkdtemp()
    lay_out(case, folder, base)
    flags = [f.replace("@", folder + "/").replace("NAME=busybox", "NAME=" + base).replace("//busybox", "//" + base)
             for f in shlex.split(case["options"].get("flags", ""))]
    for at, flag in enumerate(flags):
        if flag == "-f":
            flags[at + 1] = os.path.join(folder, flags[at + 1])
    if "before" in case["options"]:
        run(["build", "-q", "-t", case["options"]["before"], os.path.join(folder, "parent")])
    image = "build-corpus-" + name
    built = run(["build", "--no-cache", "-q", "-t", image] + flags + [folder])
    failed = built.returncode != 0
    names = [n for n, _ in case["sections"]]
    found = {}
    if "error" in names:
        print(f"{name}: {builder} {'refuses' if failed else 'ACCEPTS'}: {built.stderr.strip()[-150:]}")
        if failed:
            case["options"]["as"] = "both" if marked and marked != builder else builder
        shutil.rmtree(folder)
        return
    if failed:
        print(f"{name}: {builder} FAILS: {built.stderr.strip()[-300:]}")
        shutil.rmtree(folder)
        return
    if "run" in names:
        script = next(b for n, b in case["sections"] if n == "run")
        ran = run(["run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script])
        found["out"] = ran.stdout
    if "config" in names:
        shown = json.loads(run(["image", "inspect", "-f", "{{json .}}", image]).stdout)
        config = {k: shown["Config"].get(k) for k in KEYS if shown["Config"].get(k)}
        if shown.get("Author"):
            config["Author"] = shown["Author"]
        found["config"] = "".join(f"{k}: {json.dumps(v, sort_keys=True, separators=(',', ':'))}\n" for k, v in config.items())
    run(["rmi", "-f", image])
    shutil.rmtree(folder)
    before = {n: b for n, b in case["sections"] if n in ("out", "config")}
    same = all(before.get(k) == v for k, v in found.items())
    if builder == "classic" and marked == "buildkit":
        # BuildKit's word counts; the older one is only asked whether it agrees.
        if same:
            case["options"]["as"] = "both"
        else:
            print(f"{name}: classic differs: {found} instead of {before}")
        return
    case["options"]["as"] = builder
    case["sections"] = [s for s in case["sections"] if s[0] not in ("out", "config")]
    case["sections"] += [[k, found[k]] for k in ("out", "config") if k in found]


if __name__ == "__main__":
    main()
