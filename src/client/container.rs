//! Containers and execs: one method per endpoint.

use crate::api::container::ContainerInspect;
use crate::api::container::{
    Change, ContainerSummary, ContainersPruned, CreateRequest, CreateResponse, IdResponse, PathStat, TopResponse,
    UpdateConfig, UpdateResponse,
};
use crate::api::exec::{ExecCreate, ExecInspect, ExecStart};
use crate::api::filters::Filters;
use crate::client::hijack::Hijacked;
use crate::client::http::Reply;
use crate::client::{Client, Request, segment};
use crate::error::{Error, Result};
use base64::Engine as _;
use std::io::Read;

/// Which streams to attach to.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub logs: bool,
    pub detach_keys: String,
}

fn path(id: &str, verb: &str) -> String {
    format!("/containers/{}/{verb}", segment(id))
}

impl Client {
    pub fn container_create(&self, name: &str, platform: &str, request: &CreateRequest) -> Result<CreateResponse> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.post("/containers/create")
            .query_opt("name", some(name))
            .query_opt("platform", some(platform))
            .json_body(request)?
            .json()
    }
    pub fn container_attach(&self, id: &str, options: &AttachOptions) -> Result<Hijacked> {
        self.post(path(id, "attach"))
            .query("stream", "1")
            .query_if("stdin", options.stdin)
            .query_if("stdout", options.stdout)
            .query_if("stderr", options.stderr)
            .query_if("logs", options.logs)
            .query_opt("detachKeys", (!options.detach_keys.is_empty()).then_some(&options.detach_keys))
            .header("Content-Type", "text/plain")
            .hijack()
    }
    /// The head of the answer comes at once, its body when the container has ended.
    pub fn container_wait(&self, id: &str, condition: &str) -> Result<Reply> {
        let some = (!condition.is_empty()).then_some(condition);
        self.post(path(id, "wait")).query_opt("condition", some).send()
    }
    /// Takes the word of the daemon for it; the body is empty.
    fn act(&self, id: &str, verb: &str) -> Request<'_> {
        self.post(path(id, verb))
    }
    pub fn container_start(&self, id: &str, detach_keys: &str) -> Result<()> {
        let keys = (!detach_keys.is_empty()).then_some(detach_keys);
        self.act(id, "start").query_opt("detachKeys", keys).done()
    }
    pub fn container_stop(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        self.act(id, "stop").query_opt("signal", signal).query_opt("t", timeout.map(|t| t.to_string())).done()
    }
    pub fn container_restart(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        self.act(id, "restart").query_opt("signal", signal).query_opt("t", timeout.map(|t| t.to_string())).done()
    }
    pub fn container_kill(&self, id: &str, signal: Option<&str>) -> Result<()> {
        self.act(id, "kill").query_opt("signal", signal).done()
    }
    pub fn container_pause(&self, id: &str) -> Result<()> {
        self.act(id, "pause").done()
    }
    pub fn container_unpause(&self, id: &str) -> Result<()> {
        self.act(id, "unpause").done()
    }
    pub fn container_rename(&self, id: &str, name: &str) -> Result<()> {
        self.act(id, "rename").query("name", name).done()
    }
    pub fn container_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        self.act(id, "resize").query("h", rows.to_string()).query("w", cols.to_string()).done()
    }
    pub fn container_remove(&self, id: &str, volumes: bool, link: bool, force: bool) -> Result<()> {
        self.delete(format!("/containers/{}", segment(id)))
            .query_if("v", volumes)
            .query_if("link", link)
            .query_if("force", force)
            .done()
    }
    pub fn container_inspect(&self, id: &str) -> Result<ContainerInspect> {
        self.get(path(id, "json")).json()
    }
    /// The document as it stands, for `docker inspect`.
    pub fn container_inspect_raw(&self, id: &str, size: bool) -> Result<Vec<u8>> {
        self.get(path(id, "json")).query_if("size", size).bytes()
    }
    pub fn container_list(
        &self,
        all: bool,
        limit: i64,
        size: bool,
        filters: &Filters,
    ) -> Result<Vec<ContainerSummary>> {
        self.get("/containers/json")
            .query_if("all", all)
            .query_opt("limit", (limit > 0).then(|| limit.to_string()))
            .query_if("size", size)
            .query_opt("filters", (!filters.is_empty()).then(|| filters.encode()))
            .json()
    }
    pub fn container_top(&self, id: &str, options: &[String]) -> Result<TopResponse> {
        let joined = options.join(" ");
        self.get(path(id, "top")).query_opt("ps_args", (!joined.is_empty()).then_some(joined)).json()
    }
    pub fn container_changes(&self, id: &str) -> Result<Vec<Change>> {
        let changes: Option<Vec<Change>> = self.get(path(id, "changes")).json()?;
        Ok(changes.unwrap_or_default())
    }
    pub fn container_export(&self, id: &str) -> Result<Reply> {
        self.get(path(id, "export")).send()
    }
    pub fn container_stats(&self, id: &str, stream: bool) -> Result<Reply> {
        self.get(path(id, "stats")).query("stream", if stream { "1" } else { "0" }).send()
    }
    pub fn container_update(&self, id: &str, config: &UpdateConfig) -> Result<UpdateResponse> {
        self.act(id, "update").json_body(config)?.json()
    }
    pub fn containers_prune(&self, filters: &Filters) -> Result<ContainersPruned> {
        self.post("/containers/prune").query_opt("filters", (!filters.is_empty()).then(|| filters.encode())).json()
    }
    pub fn commit(&self, query: &[(&str, String)], changes: &[String]) -> Result<IdResponse> {
        let request = query.iter().fold(self.post("/commit"), |r, (k, v)| r.query(k, v));
        changes.iter().fold(request, |r, c| r.query("changes", c)).json_body(&crate::api::Empty {})?.json()
    }

    /// What stands at a path of a container, the link itself if it is one.
    pub fn archive_stat(&self, id: &str, at: &str) -> Result<PathStat> {
        path_stat(&self.head(path(id, "archive")).query("path", at).send()?)
    }
    /// A tar of what stands there.
    pub fn archive_get(&self, id: &str, at: &str) -> Result<(Reply, PathStat)> {
        let reply = self.get(path(id, "archive")).query("path", at).send()?;
        let stat = path_stat(&reply)?;
        Ok((reply, stat))
    }
    /// Unpacks a tar in a directory of the container.
    pub fn archive_put(&self, id: &str, at: &str, copy_ids: bool, tar: &mut (dyn Read + Send)) -> Result<()> {
        self.put(path(id, "archive"))
            .query("path", at)
            .query("noOverwriteDirNonDir", "true")
            .query_opt("copyUIDGID", copy_ids.then_some("true"))
            .stream_body("application/x-tar", tar)
            .done()
    }

    pub fn exec_create(&self, container: &str, exec: &ExecCreate) -> Result<String> {
        self.post(path(container, "exec")).json_body(exec)?.json::<IdResponse>().map(|r| r.id)
    }
    pub fn exec_start(&self, id: &str, start: &ExecStart) -> Result<()> {
        self.post(format!("/exec/{}/start", segment(id))).json_body(start)?.done()
    }
    pub fn exec_attach(&self, id: &str, start: &ExecStart) -> Result<Hijacked> {
        self.post(format!("/exec/{}/start", segment(id))).json_body(start)?.hijack()
    }
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        self.get(format!("/exec/{}/json", segment(id))).json()
    }
    pub fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let path = format!("/exec/{}/resize", segment(id));
        self.post(path).query("h", rows.to_string()).query("w", cols.to_string()).done()
    }
}

fn path_stat(reply: &Reply) -> Result<PathStat> {
    let bad = || Error::system("unable to decode the daemon's path stat header");
    let header = reply.header("X-Docker-Container-Path-Stat").ok_or_else(bad)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(header).map_err(|_| bad())?;
    crate::api::decode::from_slice(&bytes).map_err(|_| bad())
}
