//! The command tree as one flat table: every path a command answers to, its usage
//! and how many arguments it takes; flags, texts and types come from its argh
//! struct. Parsing, help, man pages and completions all walk this table.

use crate::cli::context::Context;
use crate::cli::{builder, checkpoint, container, contexts, flags, image, manifest};
use crate::cli::{network, plugin, registry, swarm, system, tls, volume};
use crate::error::{Error, Result};
use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use std::process::ExitCode;

/// A verb: its flags are its fields, and this runs it.
pub trait Verb: FromArgs + ArgsInfo {
    fn run(self, cx: &mut Context) -> Result<ExitCode>;
}

/// How many arguments a verb takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Args {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
    /// Not this table's business.
    Any,
}
use Args::{Any, AtLeast, AtMost, Between, Exactly};

pub struct Command {
    /// Full paths; the first is the canonical one, those under the same parent are
    /// its aliases, a single word is the short form at the top.
    pub names: &'static [&'static str],
    /// What follows the name in the usage line; a newline starts a second form.
    pub usage: &'static str,
    pub args: Args,
    /// In place of the struct's own description.
    pub about: Option<&'static str>,
    pub info: fn() -> CommandInfoWithArgs,
    pub run: fn(&[&str], &mut Context) -> Result<ExitCode>,
    /// Only fills the struct, to see whether it takes a line.
    pub try_fill: fn(&[&str]) -> Result<()>,
    /// Flags of the struct that this command does not have.
    pub without: &'static [&'static str],
    /// Options end at the first argument.
    pub options_first: bool,
    /// No flags are parsed: the verb gets the line as it is.
    pub raw: bool,
    pub hidden: bool,
    /// Judges list values while the line is read.
    pub check: fn(&str, &str) -> Result<(), String>,
}

/// A word that only has subcommands.
pub struct Group {
    pub name: &'static str,
    pub about: &'static str,
    pub hidden: bool,
}

const fn verb<T: Verb>(names: &'static [&'static str], usage: &'static str, args: Args) -> Command {
    Command {
        names,
        usage,
        args,
        about: None,
        info: T::get_args_info,
        run: run::<T>,
        try_fill: |args| fill::<T>(args).map(drop),
        without: &[],
        options_first: false,
        raw: false,
        hidden: false,
        check: crate::cli::lists::check,
    }
}

fn run<T: Verb>(args: &[&str], cx: &mut Context) -> Result<ExitCode> {
    fill::<T>(args)?.run(cx)
}

/// argh fills the struct; the line was checked before, so a refusal is a bug of
/// the table and is reported as it stands.
pub fn fill<T: FromArgs>(args: &[&str]) -> Result<T> {
    T::from_args(&["docker"], args).map_err(|e| Error::invalid(e.output.trim().to_owned()))
}

/// A command of swarm mode or content trust: everything goes to one place that
/// knows what to answer.
const fn raw(names: &'static [&'static str], usage: &'static str, about: &'static str) -> Command {
    Command { about: Some(about), raw: true, ..verb::<swarm::Raw>(names, usage, Any) }
}

const CREATE_LACKS: &[&str] = &["--detach", "--detach-keys", "--sig-proxy"];

pub static GROUPS: &[Group] = &[
    Group { name: "builder", about: "Manage builds", hidden: false },
    Group { name: "checkpoint", about: "Manage checkpoints", hidden: true },
    Group { name: "config", about: "Manage Swarm configs", hidden: true },
    Group { name: "container", about: "Manage containers", hidden: false },
    Group { name: "context", about: "Manage contexts", hidden: false },
    Group { name: "image", about: "Manage images", hidden: false },
    Group { name: "manifest", about: "Manage image manifests and manifest lists", hidden: false },
    Group { name: "network", about: "Manage networks", hidden: false },
    Group { name: "node", about: "Manage Swarm nodes", hidden: true },
    Group { name: "plugin", about: "Manage plugins", hidden: false },
    Group { name: "secret", about: "Manage Swarm secrets", hidden: true },
    Group { name: "service", about: "Manage Swarm services", hidden: true },
    Group { name: "stack", about: "Manage Swarm stacks", hidden: true },
    Group { name: "swarm", about: "Manage Swarm", hidden: false },
    Group { name: "tls", about: "Manage certificates of the API over the network", hidden: false },
    Group { name: "system", about: "Manage the daemon", hidden: false },
    Group { name: "trust", about: "Manage signatures of images", hidden: false },
    Group { name: "trust key", about: "Manage keys that sign images", hidden: false },
    Group { name: "trust signer", about: "Manage who may sign images", hidden: false },
    Group { name: "volume", about: "Manage volumes", hidden: false },
];

/// The order in which help lists what people use most.
pub const COMMON: &[&str] =
    &["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    verb::<container::attach::Attach>(&["container attach", "attach"], "[OPTIONS] CONTAINER", Exactly(1)),
    verb::<container::commit::Commit>(&["container commit", "commit"], "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Between(1, 2)),
    verb::<container::cp::Cp>(&["container cp", "cp"], "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH", Exactly(2)),
    Command { options_first: true, without: CREATE_LACKS, check: flags::check, about: Some("Create a container from an image"), run: container::create::create,
        ..verb::<container::run::Run>(&["container create", "create"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", AtLeast(1)) },
    verb::<container::diff::Diff>(&["container diff", "diff"], "CONTAINER", Exactly(1)),
    Command { options_first: true, check: flags::check,
        ..verb::<container::exec::Exec>(&["container exec", "exec"], "[OPTIONS] CONTAINER COMMAND [ARG...]", AtLeast(2)) },
    verb::<container::export::Export>(&["container export", "export"], "[OPTIONS] CONTAINER", Exactly(1)),
    verb::<container::inspect::Inspect>(&["container inspect"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::kill::Kill>(&["container kill", "kill"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::logs::Logs>(&["container logs", "logs"], "[OPTIONS] CONTAINER", Exactly(1)),
    verb::<container::ps::Ps>(&["container ls", "container list", "container ps", "ps"], "[OPTIONS]", Args::None),
    verb::<container::pause::Pause>(&["container pause", "pause"], "CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::port::Port>(&["container port", "port"], "CONTAINER [PRIVATE_PORT[/PROTO]]", Between(1, 2)),
    verb::<container::prune::Prune>(&["container prune"], "[OPTIONS]", Args::None),
    verb::<container::rename::Rename>(&["container rename", "rename"], "CONTAINER NEW_NAME", Exactly(2)),
    verb::<container::restart::Restart>(&["container restart", "restart"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::rm::Rm>(&["container rm", "container remove", "rm"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    Command { options_first: true, check: flags::check,
        ..verb::<container::run::Run>(&["container run", "run"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", AtLeast(1)) },
    verb::<container::start::Start>(&["container start", "start"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::stats::Stats>(&["container stats", "stats"], "[OPTIONS] [CONTAINER...]", Any),
    verb::<container::stop::Stop>(&["container stop", "stop"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    Command { options_first: true, ..verb::<container::top::Top>(&["container top", "top"], "CONTAINER [ps OPTIONS]", AtLeast(1)) },
    verb::<container::unpause::Unpause>(&["container unpause", "unpause"], "CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::update::Update>(&["container update", "update"], "[OPTIONS] CONTAINER [CONTAINER...]", AtLeast(1)),
    verb::<container::wait::Wait>(&["container wait", "wait"], "CONTAINER [CONTAINER...]", AtLeast(1)),

    verb::<image::build::Build>(&["image build", "build", "builder build"], "[OPTIONS] PATH | URL | -", Exactly(1)),
    verb::<image::history::History>(&["image history", "history"], "[OPTIONS] IMAGE", Exactly(1)),
    verb::<image::import::Import>(&["image import", "import"], "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", AtLeast(1)),
    verb::<image::inspect::Inspect>(&["image inspect"], "[OPTIONS] IMAGE [IMAGE...]", AtLeast(1)),
    verb::<image::load::Load>(&["image load", "load"], "[OPTIONS]", Args::None),
    verb::<image::ls::Ls>(&["image ls", "image list", "images"], "[OPTIONS] [REPOSITORY[:TAG]]", AtMost(1)),
    verb::<image::prune::Prune>(&["image prune"], "[OPTIONS]", Args::None),
    verb::<image::pull::Pull>(&["image pull", "pull"], "[OPTIONS] NAME[:TAG|@DIGEST]", Exactly(1)),
    verb::<image::push::Push>(&["image push", "push"], "[OPTIONS] NAME[:TAG]", Exactly(1)),
    verb::<image::rm::Rm>(&["image rm", "image remove", "rmi"], "[OPTIONS] IMAGE [IMAGE...]", AtLeast(1)),
    verb::<image::save::Save>(&["image save", "save"], "[OPTIONS] IMAGE [IMAGE...]", AtLeast(1)),
    verb::<image::tag::Tag>(&["image tag", "tag"], "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Exactly(2)),
    Command { about: Some("Build from a file of the buildx plugin"), raw: true, hidden: true, run: plugin::bake, ..verb::<swarm::Raw>(&["bake"], "[OPTIONS] [TARGET...]", Any) },
    verb::<builder::prune::Prune>(&["builder prune"], "", Args::None),

    verb::<network::connect::Connect>(&["network connect"], "[OPTIONS] NETWORK CONTAINER", Exactly(2)),
    verb::<network::create::Create>(&["network create"], "[OPTIONS] NETWORK", Exactly(1)),
    verb::<network::disconnect::Disconnect>(&["network disconnect"], "[OPTIONS] NETWORK CONTAINER", Exactly(2)),
    verb::<network::inspect::Inspect>(&["network inspect"], "[OPTIONS] NETWORK [NETWORK...]", AtLeast(1)),
    verb::<network::ls::Ls>(&["network ls", "network list"], "[OPTIONS]", Args::None),
    verb::<network::prune::Prune>(&["network prune"], "[OPTIONS]", Args::None),
    verb::<network::rm::Rm>(&["network rm", "network remove"], "NETWORK [NETWORK...]", AtLeast(1)),

    verb::<volume::create::Create>(&["volume create"], "[OPTIONS] [VOLUME]", AtMost(1)),
    verb::<volume::inspect::Inspect>(&["volume inspect"], "[OPTIONS] VOLUME [VOLUME...]", AtLeast(1)),
    verb::<volume::ls::Ls>(&["volume ls", "volume list"], "[OPTIONS]", Args::None),
    verb::<volume::prune::Prune>(&["volume prune"], "[OPTIONS]", Args::None),
    verb::<volume::rm::Rm>(&["volume rm", "volume remove"], "[OPTIONS] VOLUME [VOLUME...]", AtLeast(1)),

    verb::<system::check::Check>(&["system check", "system doctor", "doctor"], "[OPTIONS]", Args::None),
    verb::<tls::init::Init>(&["tls init"], "[OPTIONS]", Args::None),
    verb::<tls::client::Client>(&["tls client"], "[OPTIONS] CLIENT", Exactly(1)),
    verb::<tls::list::List>(&["tls ls", "tls list"], "[OPTIONS]", Args::None),
    verb::<tls::revoke::Revoke>(&["tls revoke"], "[OPTIONS] CLIENT", Exactly(1)),
    verb::<system::df::Df>(&["system df"], "[OPTIONS]", Args::None),
    Command { hidden: true, ..verb::<system::dial_stdio::DialStdio>(&["system dial-stdio"], "", Args::None) },
    verb::<system::events::Events>(&["system events", "events"], "[OPTIONS]", Args::None),
    verb::<system::info::Info>(&["system info", "info"], "[OPTIONS]", Args::None),
    verb::<system::prune::Prune>(&["system prune"], "[OPTIONS]", Args::None),
    verb::<system::inspect::Inspect>(&["inspect"], "[OPTIONS] NAME|ID [NAME|ID...]", AtLeast(1)),
    verb::<system::version::Version>(&["version"], "[OPTIONS]", Args::None),

    verb::<registry::login::Login>(&["login"], "[OPTIONS] [SERVER]", AtMost(1)),
    verb::<registry::logout::Logout>(&["logout"], "[SERVER]", AtMost(1)),
    verb::<registry::search::Search>(&["search"], "[OPTIONS] TERM", Exactly(1)),

    verb::<contexts::create::Create>(&["context create"], "[OPTIONS] CONTEXT", Exactly(1)),
    verb::<contexts::export::Export>(&["context export"], "[OPTIONS] CONTEXT [FILE|-]", Between(1, 2)),
    verb::<contexts::import::Import>(&["context import"], "CONTEXT FILE|-", Exactly(2)),
    verb::<contexts::inspect::Inspect>(&["context inspect"], "[OPTIONS] [CONTEXT] [CONTEXT...]", Any),
    verb::<contexts::ls::Ls>(&["context ls", "context list"], "[OPTIONS]", Args::None),
    verb::<contexts::rm::Rm>(&["context rm", "context remove"], "CONTEXT [CONTEXT...]", AtLeast(1)),
    verb::<contexts::show::Show>(&["context show"], "", Args::None),
    verb::<contexts::update::Update>(&["context update"], "[OPTIONS] CONTEXT", Exactly(1)),
    verb::<contexts::use_::Use>(&["context use"], "CONTEXT", Exactly(1)),

    verb::<manifest::annotate::Annotate>(&["manifest annotate"], "[OPTIONS] MANIFEST_LIST MANIFEST", Exactly(2)),
    verb::<manifest::create::Create>(&["manifest create"], "MANIFEST_LIST MANIFEST [MANIFEST...]", AtLeast(2)),
    verb::<manifest::inspect::Inspect>(&["manifest inspect"], "[OPTIONS] [MANIFEST_LIST] MANIFEST", Between(1, 2)),
    verb::<manifest::push::Push>(&["manifest push"], "[OPTIONS] MANIFEST_LIST", Exactly(1)),
    verb::<manifest::rm::Rm>(&["manifest rm"], "MANIFEST_LIST [MANIFEST_LIST...]", AtLeast(1)),

    verb::<checkpoint::create::Create>(&["checkpoint create"], "[OPTIONS] CONTAINER CHECKPOINT", Exactly(2)),
    verb::<checkpoint::ls::Ls>(&["checkpoint ls", "checkpoint list"], "[OPTIONS] CONTAINER", Exactly(1)),
    verb::<checkpoint::rm::Rm>(&["checkpoint rm", "checkpoint remove"], "[OPTIONS] CONTAINER CHECKPOINT", Exactly(2)),

    raw(&["config create"], "[OPTIONS] CONFIG file|-", "Make a config of a file or STDIN"),
    raw(&["config inspect"], "[OPTIONS] CONFIG [CONFIG...]", "Show all there is to know about configs"),
    raw(&["config ls", "config list"], "[OPTIONS]", "List configs"),
    raw(&["config rm", "config remove"], "CONFIG [CONFIG...]", "Remove configs"),
    raw(&["node demote"], "NODE [NODE...]", "Make managers ordinary nodes"),
    raw(&["node inspect"], "[OPTIONS] self|NODE [NODE...]", "Show all there is to know about nodes"),
    raw(&["node ls", "node list"], "[OPTIONS]", "List nodes"),
    raw(&["node promote"], "NODE [NODE...]", "Make nodes managers"),
    raw(&["node ps"], "[OPTIONS] [NODE...]", "List the tasks of nodes"),
    raw(&["node rm", "node remove"], "[OPTIONS] NODE [NODE...]", "Remove nodes"),
    raw(&["node update"], "[OPTIONS] NODE", "Change a node"),
    raw(&["plugin create"], "[OPTIONS] PLUGIN PLUGIN-DATA-DIR", "Make a plugin of a rootfs and a configuration"),
    raw(&["plugin disable"], "[OPTIONS] PLUGIN", "Switch a plugin off"),
    raw(&["plugin enable"], "[OPTIONS] PLUGIN", "Switch a plugin on"),
    raw(&["plugin inspect"], "[OPTIONS] PLUGIN [PLUGIN...]", "Show all there is to know about plugins"),
    raw(&["plugin install"], "[OPTIONS] PLUGIN [KEY=VALUE...]", "Install a plugin"),
    raw(&["plugin ls", "plugin list"], "[OPTIONS]", "List plugins"),
    raw(&["plugin push"], "[OPTIONS] PLUGIN[:TAG]", "Send a plugin to a registry"),
    raw(&["plugin rm", "plugin remove"], "[OPTIONS] PLUGIN [PLUGIN...]", "Remove plugins"),
    raw(&["plugin set"], "PLUGIN KEY=VALUE [KEY=VALUE...]", "Change settings of a plugin"),
    raw(&["plugin upgrade"], "[OPTIONS] PLUGIN [REMOTE]", "Install a newer version of a plugin"),
    raw(&["secret create"], "[OPTIONS] SECRET [file|-]", "Make a secret of a file or STDIN"),
    raw(&["secret inspect"], "[OPTIONS] SECRET [SECRET...]", "Show all there is to know about secrets"),
    raw(&["secret ls", "secret list"], "[OPTIONS]", "List secrets"),
    raw(&["secret rm", "secret remove"], "SECRET [SECRET...]", "Remove secrets"),
    raw(&["service create"], "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a service"),
    raw(&["service inspect"], "[OPTIONS] SERVICE [SERVICE...]", "Show all there is to know about services"),
    raw(&["service logs"], "[OPTIONS] SERVICE|TASK", "Show what a service or task wrote"),
    raw(&["service ls", "service list"], "[OPTIONS]", "List services"),
    raw(&["service ps"], "[OPTIONS] SERVICE [SERVICE...]", "List the tasks of services"),
    raw(&["service rm", "service remove"], "SERVICE [SERVICE...]", "Remove services"),
    raw(&["service rollback"], "[OPTIONS] SERVICE", "Take back the last change of a service"),
    raw(&["service scale"], "SERVICE=REPLICAS [SERVICE=REPLICAS...]", "Change how many replicas services have"),
    raw(&["service update"], "[OPTIONS] SERVICE", "Change a service"),
    raw(&["stack config"], "[OPTIONS]", "Print the configuration after merging"),
    raw(&["stack deploy", "stack up"], "[OPTIONS] STACK", "Create or change a stack"),
    raw(&["stack ls", "stack list"], "[OPTIONS]", "List stacks"),
    raw(&["stack ps"], "[OPTIONS] STACK", "List the tasks of a stack"),
    raw(&["stack rm", "stack remove", "stack down"], "[OPTIONS] STACK [STACK...]", "Remove stacks"),
    raw(&["stack services"], "[OPTIONS] STACK", "List the services of a stack"),
    raw(&["swarm ca"], "[OPTIONS]", "Show or rotate the root CA"),
    raw(&["swarm init"], "[OPTIONS]", "Start a swarm"),
    raw(&["swarm join"], "[OPTIONS] HOST:PORT", "Join a swarm"),
    raw(&["swarm join-token"], "[OPTIONS] (worker|manager)", "Manage the tokens for joining"),
    raw(&["swarm leave"], "[OPTIONS]", "Leave the swarm"),
    raw(&["swarm unlock"], "", "Unlock the swarm"),
    raw(&["swarm unlock-key"], "[OPTIONS]", "Manage the key that unlocks"),
    raw(&["swarm update"], "[OPTIONS]", "Change the swarm"),
    raw(&["trust inspect"], "IMAGE[:TAG] [IMAGE[:TAG]...]", "Show keys and signatures"),
    raw(&["trust key generate"], "NAME", "Make a key pair"),
    raw(&["trust key load"], "[OPTIONS] KEYFILE", "Load a private key"),
    raw(&["trust revoke"], "[OPTIONS] IMAGE[:TAG]", "Take back the signature of an image"),
    raw(&["trust sign"], "IMAGE:TAG", "Sign an image"),
    raw(&["trust signer add"], "OPTIONS NAME REPOSITORY [REPOSITORY...]", "Add somebody who may sign"),
    raw(&["trust signer remove"], "[OPTIONS] NAME REPOSITORY [REPOSITORY...]", "Remove somebody who may sign"),
    Command { hidden: true, ..raw(&["volume update"], "[OPTIONS] [VOLUME]", "Change a cluster volume") },
];

/// The command that `words` begin with, by the longest name, and the name used.
pub fn find(words: &[String]) -> Option<(&'static Command, &'static str)> {
    let matches = |name: &str| {
        let mut at = 0;
        name.split(' ').all(|part| {
            at += 1;
            words.get(at - 1).is_some_and(|w| w == part)
        })
    };
    COMMANDS
        .iter()
        .flat_map(|c| c.names.iter().map(move |n| (c, *n)))
        .filter(|(_, n)| matches(n))
        .max_by_key(|(_, n)| n.len())
}

/// The group that `words` begin with.
pub fn find_group(words: &[String]) -> Option<&'static Group> {
    GROUPS
        .iter()
        .filter(|g| g.name.split(' ').enumerate().all(|(n, part)| words.get(n).is_some_and(|w| w == part)))
        .max_by_key(|g| g.name.len())
}

/// Whether `docker WORD` is a command or a group of ours.
pub fn is_word(word: &str) -> bool {
    let first = |name: &str| name.split(' ').next() == Some(word);
    matches!(word, "help" | "completion")
        || COMMANDS.iter().flat_map(|c| c.names).any(|n| first(n))
        || GROUPS.iter().any(|g| first(g.name))
}

/// The name that messages use: an alias under the same parent gives way to the
/// canonical name.
pub fn shown(command: &'static Command, used: &'static str) -> &'static str {
    let parent = |name: &'static str| name.rsplit_once(' ').map(|(p, _)| p);
    command.names.iter().find(|n| parent(n) == parent(used)).copied().unwrap_or(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::argv::{self, Syntax};
    use argh::FlagInfoKind;

    /// A value that every flag of this type word takes.
    fn sample(long: &str, word: &str) -> &'static str {
        match (long, word) {
            ("--attach", _) => "stdout",
            ("--add-host", _) => "a:1.2.3.4",
            ("--dns", _) => "1.1.1.1",
            ("--ulimit", _) => "nofile=1:2",
            ("--sysctl", _) => "net.a=1",
            ("--mount", _) => "type=volume,dst=/x",
            ("--device-cgroup-rule", _) => "c 1:* rwm",
            ("--blkio-weight-device", _) => "/dev/x:100",
            (_, "bool") => "true",
            (_, "int" | "uint" | "uint16" | "decimal" | "bytes" | "gpu-request") => "1",
            (_, "duration") => "1s",
            (_, "filter") => "a=b",
            (long, _) if long.starts_with("--device-") => "/dev/x:1",
            _ => "x",
        }
    }

    /// Whatever the normaliser lets pass, the struct takes: no flag of the table is
    /// declared in a way that argh refuses.
    #[test]
    fn every_flag_of_every_command_fills() {
        for command in COMMANDS.iter().filter(|c| !c.raw) {
            let info = (command.info)();
            let syntax = Syntax {
                flags: info.flags,
                without: command.without,
                aliases: &[],
                options_first: command.options_first,
                check: command.check,
            };
            let words = match command.args {
                Args::None | Args::Any | Args::AtMost(_) => 0,
                Exactly(n) | AtLeast(n) | Between(n, _) => n,
            };
            for flag in info.flags.iter().filter(|f| f.long != "--help" && !command.without.contains(&f.long)) {
                let value = match &flag.kind {
                    FlagInfoKind::Switch => "true",
                    FlagInfoKind::Option { arg_name } => sample(flag.long, arg_name),
                };
                // Twice: the last one wins, or both are kept.
                let given = format!("{}={value}", flag.long);
                let mut args = vec![given.clone(), given];
                args.extend(std::iter::repeat_n("x".to_owned(), words));
                let name = command.names[0];
                let line = argv::parse(&syntax, &args).unwrap_or_else(|e| panic!("docker {name} {args:?}: {e}"));
                (command.try_fill)(&line.argv(info.flags)).unwrap_or_else(|e| panic!("docker {name} {args:?}: {e}"));
            }
        }
    }
}
