//! One line of `GET /events`.

use crate::api::omit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `status`, `id` and `from` repeat what is in the actor for clients below 1.52.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "omit")]
    pub status: String,
    #[serde(skip_serializing_if = "omit")]
    pub id: String,
    #[serde(skip_serializing_if = "omit")]
    pub from: String,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    #[serde(skip_serializing_if = "omit")]
    pub scope: String,
    #[serde(skip_serializing_if = "omit")]
    pub time: i64,
    #[serde(rename = "timeNano", skip_serializing_if = "omit")]
    pub time_nano: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
