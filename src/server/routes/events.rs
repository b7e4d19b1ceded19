//! `/events`: the history that was asked for, then what happens.

use crate::api::events::{Actor, Message};
use crate::api::version::Version;
use crate::engine::events::{self, Event, Kind, Subscription};
use crate::engine::watch::remaining;
use crate::engine::{Engine, until};
use crate::error::{Context, Error, Result};
use crate::server::request::Request;
use crate::server::response::{Response, Stream, json_line};
use crate::server::router::{Route, route};
use crate::util::order;
use crate::util::time::{Timestamp, now};
use nix::poll::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

pub const ROUTES: &[Route] = &[route("GET", "/events", stream)];

fn stream(engine: &Arc<Engine>, request: &mut Request) -> Result<Response> {
    let time = |key: &str| match request.query(key) {
        None | Some("") => Ok(None),
        Some(text) => {
            until::point(text).map(Some).ok_or_else(|| Error::invalid(format!("invalid value for \"{key}\": {text:?}")))
        }
    };
    let (since, end) = (time("since")?, time("until")?);
    if let (Some(since), Some(end)) = (since, end)
        && since > end
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            since.secs(),
            end.secs()
        )));
    }
    // As the original: a filter that nobody knows filters nothing.
    let filters = request.filters()?;
    let wanted: BTreeMap<String, Vec<String>> = order::map(filters.iter().map(|(k, v)| (k.to_owned(), v.to_vec())));
    let (history, subscription) = engine.events.subscribe(since.or(end.map(|_| Timestamp(0))))?;
    let (version, client) = (request.version, request.fd()?);
    let run = move |out: &mut dyn Write| {
        let give = |out: &mut dyn Write, list: &[Arc<Event>]| -> Result<()> {
            for event in list.iter().filter(|e| end.is_none_or(|end| e.time <= end)) {
                if events::passes(event, &wanted) {
                    json_line(out, &message(event, version), "\n")?;
                }
            }
            Ok(())
        };
        give(out, &history)?;
        if end.is_some_and(|end| end <= now()) {
            return Ok(());
        }
        live(&subscription, &client, end, |list| give(out, list))
    };
    Ok(Response::Stream(Stream {
        content_type: "application/json",
        headers: Vec::new(),
        late_head: false,
        run: Box::new(run),
    }))
}

/// Until the time is up or the client leaves.
fn live(
    subscription: &Subscription,
    client: &OwnedFd,
    end: Option<Timestamp>,
    mut give: impl FnMut(&[Arc<Event>]) -> Result<()>,
) -> Result<()> {
    let deadline = end.and_then(|end| Instant::now().checked_add(end.since(now())));
    let closed = PollFlags::from_bits_retain(libc::POLLRDHUP);
    loop {
        let mut fds = [PollFd::new(subscription.fd(), PollFlags::POLLIN), PollFd::new(client.as_fd(), closed)];
        match poll(&mut fds, remaining(deadline)) {
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e).context("poll"),
            Ok(0) => return Ok(()),
            Ok(_) => {}
        }
        // nix has no name for RDHUP and then says none.
        if fds[1].revents().is_none_or(|r| !r.is_empty()) {
            return Err(Error::cancelled());
        }
        match subscription.take() {
            Some(list) => give(&list)?,
            // Too slow: better an end that the client sees than a gap.
            None => return Err(Error::cancelled()),
        }
    }
}

/// Below 1.52 containers' and images' events carry three older fields.
fn message(event: &Event, version: Version) -> Message {
    let legacy = version < Version(52) && matches!(event.kind, Kind::Container | Kind::Image);
    let from = match event.kind {
        Kind::Container => event.attributes.get("image").cloned().unwrap_or_default(),
        _ => String::new(),
    };
    let old = |text: &str| if legacy { text.to_owned() } else { String::new() };
    Message {
        status: old(&event.action),
        id: old(&event.id),
        from: old(&from),
        kind: event.kind.as_str().into(),
        action: event.action.clone(),
        actor: Actor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.time.secs(),
        time_nano: i64::try_from(event.time.0).unwrap_or_default(),
    }
}
