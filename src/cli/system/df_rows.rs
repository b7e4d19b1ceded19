//! The four lists of `docker system df -v`.

use crate::api::container::ContainerSummary;
use crate::api::system::BuildCacheRecord;
use crate::api::volume::Volume;
use crate::cli::container::ps;
use crate::cli::format::{Column, List, human};
use crate::cli::image::ls::{self, Row, Summary};
use crate::cli::lists::ago;
use crate::util::id::short;
use crate::util::time::parse_rfc3339;

/// An object with its id in full or short.
pub struct Part<T> {
    pub item: T,
    pub full: bool,
}

/// The line of one image: its first name.
pub fn image_rows(image: &Summary, full: bool) -> Vec<Row> {
    let mut rows = ls::rows(image, false, false, full);
    rows.truncate(1);
    rows.iter_mut().for_each(|row| row.digest.clear());
    rows
}

pub static IMAGES: List<Row> = List {
    type_name: "*formatter.imageContext",
    columns: ls::IMAGES.columns,
    label: None,
    table: "{{.Repository}}\\t{{.Tag}}\\t{{.ID}}\\t{{.CreatedSince}}\\t{{.Size}}\\t{{.SharedSize}}\\t{{.UniqueSize}}\\t{{.Containers}}",
    quiet: "",
    raw: "type: Image\\nrepository: {{.Repository}}\\ntag: {{.Tag}}\\ndigest: {{.Digest}}\\nimage_id: {{.ID}}\\ncreated_at: {{.CreatedAt}}\\nvirtual_size: {{.Size}}\\n",
};

/// The line of one container. What its image adds is told among the images.
pub fn container_row(mut c: ContainerSummary, full: bool) -> ps::Row {
    c.size_root_fs = 0;
    ps::Row { c, trunc: !full }
}

pub static CONTAINERS: List<ps::Row> = List {
    type_name: "*formatter.ContainerContext",
    columns: ps::LIST.columns,
    label: ps::LIST.label,
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    quiet: "",
    raw: "type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\nlocal_volumes: {{.LocalVolumes}}\nsize: {{.Size}}\ncreated_at: {{.CreatedAt}}\nstatus: {{.Status}}\nnames: {{.Names}}\n",
};

pub static VOLUMES: List<Volume> = List {
    type_name: "*formatter.volumeContext",
    columns: crate::cli::volume::ls::VOLUMES.columns,
    label: crate::cli::volume::ls::VOLUMES.label,
    table: "{{.Name}}\\t{{.Links}}\\t{{.Size}}",
    quiet: "",
    raw: "type: Volume\\nname: {{.Name}}\\nlinks: {{.Links}}\\nsize: {{.Size}}\\n",
};

type Record = Part<BuildCacheRecord>;

pub static CACHE: List<Record> = List {
    type_name: "*formatter.buildCacheContext",
    columns: &[
        Column::new("ID", "CACHE ID", |r: &Record| id(r.full, &r.item.id).into()),
        Column::new("Parent", "PARENT", |r| r.item.parents.join(", ").into()),
        Column::new("CacheType", "CACHE TYPE", |r| r.item.kind.as_str().into()),
        Column::new("Description", "DESCRIPTION", |r| r.item.description.as_str().into()),
        Column::new("InUse", "IN USE", |r| r.item.in_use.to_string().into()),
        Column::new("Shared", "SHARED", |r| r.item.shared.to_string().into()),
        Column::new("Size", "SIZE", |r| human::size(r.item.size as f64).into()),
        Column::new("CreatedAt", "CREATED AT", |r| r.item.created_at.as_str().into()),
        Column::new("CreatedSince", "CREATED", |r| since(&r.item.created_at).into()),
        Column::new("LastUsedAt", "LAST USED AT", |r| r.item.last_used_at.as_deref().unwrap_or_default().into()),
        Column::new("LastUsedSince", "LAST USED", |r| {
            r.item.last_used_at.as_deref().map(since).unwrap_or_default().into()
        }),
        Column::new("UsageCount", "USAGE", |r| r.item.usage_count.to_string().into()),
    ],
    label: None,
    table: "{{.ID}}\\t{{.CacheType}}\\t{{.Size}}\\t{{.CreatedSince}}\\t{{.LastUsedSince}}\\t{{.UsageCount}}\\t{{.Shared}}",
    quiet: "",
    raw: "cache id: {{.ID}}\\nparent id: {{.Parent}}\\ntype: {{.CacheType}}\\ndescription: {{.Description}}\\ncreated: {{.CreatedAt}}\\nlast used: {{.LastUsedAt}}\\nsize: {{.Size}}\\nin use: {{.InUse}}\\nshared: {{.Shared}}\\n",
};

fn id(full: bool, id: &str) -> &str {
    if full { id } else { short(id) }
}

fn since(stamp: &str) -> String {
    parse_rfc3339(stamp).map(|t| ago(t.secs())).unwrap_or_default()
}
