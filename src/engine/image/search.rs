//! `GET /images/search`. Runs in dockerd on the request's thread.

use super::login::credentials;
use crate::api::filters::Filters;
use crate::api::registry::{AuthConfig, SearchResult};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::registry::search;
use crate::image::registry::transport::Cancel;
use std::sync::Arc;

const DEFAULT_LIMIT: i64 = 25;

pub fn search(
    engine: &Engine,
    term: &str,
    limit: Option<i64>,
    filters: &Filters,
    auth: &AuthConfig,
    cancel: &Arc<Cancel>,
) -> Result<Vec<SearchResult>> {
    filters.check(&["is-automated", "is-official", "stars"])?;
    let flag = |key: &str| if filters.contains(key) { filters.bool(key, false).map(Some) } else { Ok(None) };
    let (automated, official) = (flag("is-automated")?, flag("is-official")?);
    let mut stars = 0;
    for value in filters.get("stars") {
        let wanted: i64 = value.parse().map_err(|_| Error::invalid(format!("invalid filter 'stars={value}'")))?;
        stars = stars.max(wanted);
    }
    let limit = match limit {
        None | Some(0) => DEFAULT_LIMIT,
        Some(n @ 1..=100) => n,
        Some(n) => return Err(Error::invalid(format!("limit {n} is outside the range of [1, 100]"))),
    };
    let hits = search::search(&engine.registries.settings(), term, limit as usize, &credentials(auth), cancel)?;
    let wanted = |h: &search::Hit| {
        automated.is_none_or(|a| a == h.is_automated)
            && official.is_none_or(|o| o == h.is_official)
            && h.star_count >= stars
    };
    Ok(hits
        .into_iter()
        .filter(wanted)
        .map(|h| SearchResult {
            star_count: h.star_count,
            is_official: h.is_official,
            name: h.name,
            is_automated: h.is_automated,
            description: h.description,
        })
        .collect())
}
