//! `{step, index, errno}` → the sentence that Docker's clients know. Pure; runs
//! in the shim.

use crate::runtime::child::{Failure, Step};
use crate::runtime::plan::{Plan, RootPlan};
use crate::runtime::users;
use nix::errno::Errno;

const START: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc \
                     create failed: unable to start container process: error during container init: ";
const EXEC: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

/// What stands in front of a sentence about the container's own words.
pub fn prefix(exec: bool) -> &'static str {
    if exec { EXEC } else { START }
}

/// The whole sentence and whether it is the caller's fault (400).
pub fn of(plan: &Plan, failure: Failure) -> (String, bool) {
    let exec = matches!(plan.root, RootPlan::Enter { .. });
    let user = &plan.process.user;
    // dockerd looks users up itself: nothing stands in front of these.
    match failure.step {
        Step::User | Step::Group => return (users::unknown(user, failure), true),
        Step::Cwd if !exec && failure.errno == Errno::ENOTDIR as i32 => {
            return (format!("Cannot mkdir: {} is not a directory", plan.process.cwd.to_string_lossy()), false);
        }
        _ => {}
    }
    (format!("{}{}", prefix(exec), cause(plan, failure)), false)
}

fn cause(plan: &Plan, failure: Failure) -> String {
    let errno = Errno::from_raw(failure.errno);
    let text = errno.desc().to_lowercase();
    let index = usize::from(failure.index);
    let start = match &plan.root {
        RootPlan::Start(start) => Some(start),
        RootPlan::Enter { .. } => None,
    };
    let shown = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    let command = || {
        let args = &plan.process.args;
        let ours = start.is_some_and(|s| s.init.is_some());
        shown(args.get(if ours { 2 } else { 0 }).map_or(c"", |a| a.as_c_str()))
    };
    match failure.step {
        Step::Namespaces => format!("joining its namespaces failed: {text}"),
        Step::Loopback => format!("bringing up the loopback interface failed: {text}"),
        Step::Hostname => format!("sethostname: {text}"),
        Step::Root => format!("error jailing process inside rootfs: pivot_root: {text}"),
        Step::Target | Step::Mount => {
            let Some(step) = start.and_then(|s| s.mounts.get(index)) else { return format!("mount: {text}") };
            let (source, target) = (&step.source, shown(&step.target));
            let hint = match errno {
                Errno::ENOTDIR => {
                    ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path \
                     exists and is the expected type"
                }
                Errno::EPERM if target.starts_with("/proc/") => ": nothing can be mounted inside /proc",
                _ => "",
            };
            let doing = if failure.step == Step::Target { "create mountpoint" } else { "mount" };
            format!("error mounting \"{source}\" to rootfs at \"{target}\": {doing} {target}: {text}{hint}")
        }
        Step::Console => format!("setting up the console failed: {text}"),
        Step::Stdio => format!("setting up the standard streams failed: {text}"),
        Step::Sysctl => {
            let name = start.and_then(|s| s.sysctls.get(index)).map(|(n, _)| shown(n)).unwrap_or_default();
            format!("open /proc/sys/{name}: {text}")
        }
        Step::Mask => {
            let path = start.and_then(|s| s.masked.get(index)).map(|p| shown(p)).unwrap_or_default();
            format!("can't mask path \"{path}\": {text}")
        }
        Step::Readonly => {
            let path = start.and_then(|s| s.readonly.get(index)).map(|p| shown(p)).unwrap_or_default();
            format!("can't make path \"{path}\" read-only: {text}")
        }
        Step::RootReadonly => format!("can't make the root file system read-only: {text}"),
        Step::Rlimit => {
            let kind = plan.process.rlimits.get(index).map(|l| l.resource).unwrap_or_default();
            format!("error setting rlimit type {kind}: {text}")
        }
        Step::Seccomp => format!("unable to init seccomp: {text}"),
        Step::User | Step::Group => text,
        Step::Identity => {
            let spec = &plan.process.user.spec;
            format!("cannot become user \"{spec}\": {text}: the id is not mapped on this host (see /etc/subuid)")
        }
        Step::Cwd => {
            format!("chdir to cwd (\"{}\") set in config.json failed: {text}", shown(&plan.process.cwd))
        }
        Step::CwdOutside => "current working directory is outside of container mount namespace root -- possible \
                             container breakout detected"
            .to_owned(),
        Step::Capabilities => format!("unable to apply caps: {text}"),
        Step::Oom => format!("failed to set oom_score_adj: {text}"),
        Step::NotInPath => format!("exec: \"{}\": executable file not found in $PATH", command()),
        // dockerd appends the second half, so that the client says 126.
        Step::IsDirectory => format!("exec: \"{}\": is a directory: permission denied", command()),
        Step::NotExecutable => format!("exec: \"{}\": {text}", command()),
        Step::NoSuchFile => format!("exec: \"{0}\": stat {0}: {text}", command()),
    }
}
