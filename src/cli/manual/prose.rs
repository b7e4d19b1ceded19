//! What the manual says beyond the tables: how things work, examples, files,
//! environment. Blank lines part paragraphs, four spaces make an example.

#[derive(Clone, Copy)]
pub struct Prose {
    pub description: &'static str,
    pub examples: &'static str,
    pub environment: &'static [(&'static str, &'static str)],
    pub files: &'static [(&'static str, &'static str)],
    pub exit: &'static str,
}

const NONE: Prose = Prose { description: "", examples: "", environment: &[], files: &[], exit: "" };

/// Of a command by its canonical name; `""` is docker itself.
pub fn of(name: &str) -> Prose {
    TEXTS.iter().find(|(n, _)| *n == name).map_or(NONE, |(_, prose)| *prose)
}

#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(name, _)| *name)
}

const RUN_EXIT: &str = "The status of the container's command; 128+n when signal n ended it. 125 when Docker itself failed, 126 when the command cannot be invoked, 127 when it is not there. With --detach, 0 once the container is started.";

static TEXTS: &[(&str, Prose)] = &[
    (
        "",
        Prose {
            description: "
docker talks to a daemon, dockerd(8), which runs containers: processes with a file system, a network and a process table of their own. The daemon needs no root: each user can run one.

Without -H, --context, DOCKER_HOST, DOCKER_CONTEXT and a current context the client takes $XDG_RUNTIME_DIR/docker.sock if it is there, else /var/run/docker.sock.

Several commands have a long form below a noun and a short one: \"docker container ls\" is \"docker ps\".",
            environment: &[
                ("DOCKER_API_VERSION", "Version of the API to use in place of the negotiated one."),
                ("DOCKER_CERT_PATH", "Folder of ca.pem, cert.pem and key.pem."),
                ("DOCKER_CONFIG", "Folder of the client's configuration, ~/.docker by default."),
                ("DOCKER_CONTEXT", "Context to use. DOCKER_HOST comes before it."),
                ("DOCKER_HOST", "Address of the daemon: unix:///path, tcp://host:port or ssh://user@host."),
                ("DOCKER_TLS_VERIFY", "Not empty: use TLS and check the daemon's certificate."),
                ("HTTP_PROXY", "Proxy on the way to a tcp:// daemon: http:// or socks5://."),
                ("HTTPS_PROXY", "The same for one that is reached with TLS."),
                ("NO_COLOR", "Not empty: no colours."),
                ("NO_PROXY", "Hosts, domains and ranges that are reached without a proxy."),
            ],
            files: &[
                ("~/.docker/config.json", "Registries that are logged in, defaults of --format, current context. Mode 0600."),
                ("~/.docker/contexts/", "Contexts and their TLS files."),
                ("$XDG_RUNTIME_DIR/docker.sock", "Socket of the user's daemon."),
            ],
            exit: "0 on success, 1 on failure, 125 for a command line that cannot be read. run, exec, start --attach and attach end with the status of the command in the container.",
            ..NONE
        },
    ),
    (
        "dockerd",
        Prose {
            description: "
The daemon serves the Docker Engine API on its sockets and runs containers. Started by an ordinary user it makes a user namespace of its own; with a range for the user in /etc/subuid and /etc/subgid and the newuidmap and newgidmap programs containers have many ids, else one.

Containers outlive the daemon: it may be stopped, killed or replaced at any time, and the next one takes over what runs.

\"docker system check\" tells what a host lacks and the command that mends it.

SIGTERM and SIGINT stop the daemon in order, SIGHUP reads the configuration file again.

Options without effect are taken, so that command lines and files written for others go on working, and the log says why they have none; refused ones would weaken what was asked for, and end the daemon.",
            files: &[
                ("~/.config/docker/daemon.json", "Configuration; /etc/docker/daemon.json for root. What is given there may not be given as an option too."),
                ("~/.local/share/coracle", "Images, containers and volumes; /var/lib/coracle for root."),
                ("$XDG_RUNTIME_DIR/coracle", "State of what runs; /run/coracle for root."),
                ("$XDG_RUNTIME_DIR/docker.sock", "The API; /var/run/docker.sock for root."),
                ("/etc/subuid, /etc/subgid", "Ranges of ids that users may hand to containers."),
            ],
            environment: &[
                ("DOCKER_TLS_VERIFY", "Not empty: as --tlsverify."),
                ("LISTEN_FDS", "Sockets handed over by the service manager, used by -H fd://."),
                ("LISTEN_FDNAMES", "Their names (FileDescriptorName= of systemd.socket(5)). One named \"publish\" is not for the API: a container that publishes exactly its address, port and protocol gets it, also below 1024. Until one does, clients wait in its queue."),
                ("NOTIFY_SOCKET", "Where readiness is told."),
                ("XDG_RUNTIME_DIR, XDG_DATA_HOME, XDG_CONFIG_HOME", "Where an ordinary user's files lie."),
            ],
            exit: "0 after an orderly stop, 1 when it cannot start.",
            ..NONE
        },
    ),
    (
        "container run",
        Prose {
            description: "
A new container is made of IMAGE, which is pulled if it is not here, and COMMAND runs in it in place of the image's own. Options end at the image: what follows belongs to the command.

Without -d the client stays attached: signals are passed on, and the status of the command becomes its own.",
            examples: "
A shell in a container that is gone afterwards:

    docker run --rm -it debian bash

A server in the background, reached on port 8080 of this host, with its data in a volume:

    docker run -d --name web -p 8080:80 -v web-data:/data nginx

A folder of the host, read only, and limits:

    docker run --rm -v \"$PWD\":/src:ro -m 256m --cpus 1.5 -w /src gcc make",
            exit: RUN_EXIT,
            ..NONE
        },
    ),
    (
        "container exec",
        Prose {
            examples: "
    docker exec -it web sh

    docker exec -u 1000 -e DEBUG=1 web id",
            exit: "The status of the command; 126 when it cannot be invoked, 127 when it is not there, 1 when the container does not run.",
            ..NONE
        },
    ),
    (
        "container cp",
        Prose {
            description: "
Paths in a container are relative to its root. A folder is copied under its name into a folder that exists; PATH/. copies what is in it. \"-\" stands for a tar archive on standard input or output. The container need not run.",
            examples: "
    docker cp web:/etc/nginx/nginx.conf .

    docker cp site/. web:/usr/share/nginx/html

    docker cp web:/var/log - | tar tvf -",
            ..NONE
        },
    ),
    (
        "container logs",
        Prose {
            examples: "
    docker logs -f --tail 20 web

    docker logs --since 10m web",
            ..NONE
        },
    ),
    (
        "container ls",
        Prose {
            description: "
Only running containers are listed unless -a is given. Filters are ancestor, before, exited, expose, health, id, isolation, is-task, label, name, network, publish, since, status and volume; name and id take regular expressions.",
            examples: "
    docker ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'",
            ..NONE
        },
    ),
    (
        "image build",
        Prose {
            examples: "
    docker build -t app .

    docker build -f docker/Dockerfile --target test --build-arg V=1 .",
            ..NONE
        },
    ),
    (
        "image ls",
        Prose {
            description: "
Filters are dangling, label, before, since, reference and until. \"docker images --tree\" shows one block per image with its platforms.",
            ..NONE
        },
    ),
    (
        "image save",
        Prose {
            description: "
The archive has the images with all their layers and tags, in the layout of Docker and in that of OCI. Layers come out as they went in, byte for byte.",
            examples: "
    docker save app:1 | zstd > app.tar.zst

    docker save -o all.tar app:1 app:2",
            ..NONE
        },
    ),
    (
        "image load",
        Prose {
            description: "
Archives may be plain or packed by gzip, bzip2, xz or zstd, in the layout of Docker or of OCI.",
            examples: "
    docker load -i app.tar.zst",
            ..NONE
        },
    ),
    (
        "network create",
        Prose {
            examples: "
    docker network create --subnet 10.1.0.0/24 --gateway 10.1.0.1 backend

    docker network create --internal --ipv6 quiet",
            ..NONE
        },
    ),
    (
        "volume create",
        Prose {
            examples: "
    docker volume create --label use=db data

    docker volume create -o type=tmpfs -o device=tmpfs -o o=size=100m scratch",
            ..NONE
        },
    ),
    (
        "context create",
        Prose {
            description: "
A context names a daemon: its address and, for TLS, a CA, a certificate and a key, which are copied into the configuration. Keys of --docker are host, ca, cert, key, skip-tls-verify and from.",
            examples: "
    docker context create board --docker host=ssh://pi@board

    docker context create lab --docker host=tcp://lab:2376,ca=ca.pem,cert=cert.pem,key=key.pem

    docker context use lab",
            ..NONE
        },
    ),
    (
        "inspect",
        Prose {
            description: "
A name is looked for among containers, images, networks, volumes and plugins, in this order, unless --type says which.",
            examples: "
    docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web",
            ..NONE
        },
    ),
    (
        "system events",
        Prose {
            examples: "
    docker events --since 10m --filter type=container --format '{{.Time}} {{.Action}} {{.Actor.Attributes.name}}'",
            ..NONE
        },
    ),
];
