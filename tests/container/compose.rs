//! A project of docker compose, as the plugin of our client and of the original's:
//! health-checked dependencies, volumes, configs, secrets, two networks, scaling.

use crate::harness::{Client, Daemon, Output, eventually, probe, run};
use crate::need;

const PROJECT: &str = r#"
name: shop
services:
  db:
    image: busybox
    command: ["sh", "-c", "cat /etc/app.conf; echo ready >/data/state; exec sleep 1000"]
    init: true
    volumes: [ "data:/data" ]
    configs: [ { source: app, target: /etc/app.conf } ]
    secrets: [ token ]
    networks: { back: { aliases: [ database ] } }
    healthcheck:
      test: ["CMD", "test", "-f", "/data/state"]
      interval: 1s
      start_period: 30s
      start_interval: 100ms
      retries: 20
  setup:
    image: busybox
    command: ["true"]
    network_mode: none
  web:
    image: busybox
    command: ["sh", "-c", "ping -c 1 -w 30 database && exec httpd -f -p 8080 -h /www"]
    init: true
    depends_on:
      db: { condition: service_healthy }
      setup: { condition: service_completed_successfully }
    networks: [ front, back ]
    environment: { MODE: "${MODE:-default}" }
    restart: unless-stopped
volumes: { data: { labels: { kind: test } } }
configs: { app: { content: "answer=42\n" } }
secrets: { token: { environment: TOKEN } }
networks: { front: {}, back: { internal: true } }
"#;

fn compose(d: &Daemon, client: Client, line: &str) -> Output {
    let mut command = d.cli(client);
    command.env("DOCKER_CONFIG", d.scratch.join("home/.docker")).env("TOKEN", "s3cret").env("MODE", "tested");
    run(command.arg("compose").arg("-f").arg(d.scratch.join("compose.yaml")).args(line.split(' ')))
}

#[test]
fn a_project_comes_up_scales_restarts_and_goes() {
    need!(probe::busybox(), probe::subordinate_ids(), probe::plugin("compose"));
    let d = Daemon::with_busybox();
    d.scratch.file("compose.yaml", PROJECT);
    d.scratch.dir("home/.docker/cli-plugins");
    std::os::unix::fs::symlink(
        probe::plugin("compose").unwrap(),
        d.scratch.join("home/.docker/cli-plugins/docker-compose"),
    )
    .unwrap();
    for c in d.clients() {
        compose(&d, c, "up -d --wait --quiet-pull").ok();
        assert_eq!(d.inspect("shop-db-1", "{{.State.Health.Status}}"), "healthy");
        assert_eq!(d.inspect("shop-setup-1", "{{.State.Status}} {{.State.ExitCode}}"), "exited 0");
        assert_eq!(d.inspect("shop-web-1", "{{len .NetworkSettings.Networks}}"), "2");
        compose(&d, c, "exec -T db cat /run/secrets/token /etc/app.conf").prints("s3cretanswer=42");
        compose(&d, c, "exec -T web sh -c env").contains("MODE=tested").ok();
        compose(&d, c, "logs --no-log-prefix --no-color db").prints("answer=42");
        compose(&d, c, "up -d --scale web=3").ok();
        assert_eq!(compose(&d, c, "ps -q web").ok().lines().count(), 3);
        eventually("a scaled service that is found under its name", || {
            compose(&d, c, "exec -T db wget -q -O - http://web:8080/index.html").stdout.contains("hello")
        });
        compose(&d, c, "up -d --scale web=1").ok();
        assert_eq!(compose(&d, c, "ps -q web").ok().lines().count(), 1);
        let started = d.inspect("shop-db-1", "{{.State.StartedAt}}");
        compose(&d, c, "restart db").ok();
        assert_ne!(started, d.inspect("shop-db-1", "{{.State.StartedAt}}"));
        compose(&d, c, "run --rm --no-deps -T web echo once").contains("once").ok();
        compose(&d, c, "cp web:/www/index.html copied").ok();
        compose(&d, c, "stop web").ok();
        assert_eq!(d.inspect("shop-web-1", "{{.State.Status}}"), "exited");
        compose(&d, c, "down -v").ok();
        for list in ["ps -aq", "volume ls -q", "network ls -q --filter type=custom"] {
            assert_eq!(d.docker(&list.split(' ').collect::<Vec<_>>()).ok(), "", "{list}");
        }
    }
}
