//! `docker inspect` of a container: the record in Docker's shape. Pure apart from
//! sizes, which are asked for.

use super::record::Record;
use super::state::time_text;
use super::{Container, links, log_options, size};
use crate::api::container::{ContainerConfig, ContainerInspect, GraphDriver, HostConfig, NetworkSettings, State};
use crate::engine::Engine;
use crate::error::Result;
use std::collections::BTreeMap;

pub fn inspect(engine: &Engine, reference: &str, with_size: bool) -> Result<ContainerInspect> {
    let container = engine.containers.get(reference)?;
    let (record, exec_ids, removing) = {
        let live = container.live();
        (live.record.clone(), live.exec_ids.clone(), live.record.state.removing)
    };
    let sizes = if with_size { Some(size::of(engine, &record)?) } else { None };
    let dir = container.dir.display();
    let file = |name: &str| if record.has_files { format!("{dir}/{name}") } else { String::new() };
    let log_path = if record.has_files || record.state.started_at.is_some() {
        log_options::json_path(&record, &container.dir)
    } else {
        String::new()
    };
    let mut state = state(&record);
    if removing {
        state.status = "removing".into();
    }
    Ok(ContainerInspect {
        id: record.id.clone(),
        created: time_text(Some(record.created)),
        path: record.path.clone(),
        args: record.args.clone(),
        state,
        image: record.image_id.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path,
        name: format!("/{}", record.name),
        restart_count: record.restart_count,
        driver: record.driver.clone(),
        platform: record.platform.clone(),
        exec_ids: Some(exec_ids).filter(|e| !e.is_empty()),
        host_config: HostConfig { links: links::shown(engine, &record), ..record.host_config.clone() },
        graph_driver: graph_driver(engine, &container, &record),
        size_rw: sizes.map(|s| s.rw as i64),
        size_root_fs: sizes.map(|s| s.root_fs as i64),
        mounts: mount_points(&record),
        config: ContainerConfig { mac_address: mac_address(&record), ..record.config.clone() },
        network_settings: network_settings(&record),
        ..ContainerInspect::default()
    })
}

/// In Docker's order: volumes and binds as they were asked for.
pub fn mount_points(record: &Record) -> Vec<crate::api::container::MountPoint> {
    record.mounts.iter().map(super::record::MountRecord::to_api).collect()
}

fn state(record: &Record) -> State {
    use super::state::Phase;
    let state = &record.state;
    State {
        status: state.status().into(),
        running: state.counts_as_running(),
        paused: state.phase == Phase::Paused,
        restarting: state.phase == Phase::Restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == Phase::Dead,
        pid: state.pid.into(),
        exit_code: state.exit_code.into(),
        error: state.error.clone(),
        started_at: time_text(state.started_at),
        finished_at: time_text(state.finished_at),
        health: record.health.clone(),
    }
}

fn graph_driver(engine: &Engine, container: &Container, record: &Record) -> GraphDriver {
    let mut data: BTreeMap<String, String> = engine
        .driver
        .paths(&container.id, &record.lowers())
        .into_iter()
        .map(|(key, path)| (key.to_owned(), path.display().to_string()))
        .collect();
    data.insert("ID".into(), container.id.clone());
    GraphDriver { data: Some(data), name: record.driver.clone() }
}

/// The old field repeats what was asked of the network that the mode names.
fn mac_address(record: &Record) -> String {
    let mode = if links::legacy(&record.host_config) { "bridge" } else { &record.host_config.network_mode };
    match record.asked_macs.get(mode) {
        Some(asked) if record.config.mac_address.is_empty() => asked.clone(),
        _ => record.config.mac_address.clone(),
    }
}

fn network_settings(record: &Record) -> NetworkSettings {
    // The old fields repeat the default bridge's endpoint.
    let bridge = record.networks.get("bridge").cloned().unwrap_or_default();
    NetworkSettings {
        sandbox_id: record.sandbox_id.clone(),
        sandbox_key: record.sandbox_key.clone(),
        ports: record.ports.clone(),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: i64::from(bridge.global_ipv6_prefix_len).try_into().unwrap_or_default(),
        ip_address: bridge.ip_address,
        ip_prefix_len: i64::from(bridge.ip_prefix_len).try_into().unwrap_or_default(),
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: if bridge.network_id.is_empty() { String::new() } else { bridge.mac_address },
        networks: record.networks.clone(),
        ..NetworkSettings::default()
    }
}
