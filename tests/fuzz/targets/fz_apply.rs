//! Layers made of hostile names, links, whiteouts and devices, unpacked into a
//! directory. Nothing outside may change, and the record must give the same
//! bytes again. Wants to run in a user namespace of its own (see README.md).

#![no_main]

use coracle::storage::apply::{Limits, Options, apply};
use coracle::storage::split::{Assemble, read_moved};
use coracle::storage::vfs::Vfs;
use coracle::storage::{Driver, Whiteouts};
use coracle_fuzz::{Dice, Tar};
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

const CANARY: &str = "nobody writes here";

fn place() -> &'static PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = PathBuf::from(format!("/dev/shm/fz-apply-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("canary"), CANARY).unwrap();
        place
    })
}

fuzz_target!(|data: &[u8]| {
    let tar = Tar::from_program(&mut Dice::new(data), data);
    let driver = Vfs::open(&place().join("store")).unwrap();
    let staging = driver.stage(None).unwrap();
    assert_eq!(staging.whiteouts(), Whiteouts::Apply);
    let split = File::create(place().join("split")).unwrap();
    let options = Options { limits: Limits::default(), cancelled: &|| false, single_id: true, devices: false };
    let result = apply(&mut tar.as_slice(), &*staging, Some(&split), options);
    assert_eq!(fs::read_to_string(place().join("canary")).unwrap(), CANARY);
    let mut beside: Vec<_> = fs::read_dir(place()).unwrap().map(|e| e.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["canary", "split", "store"]);
    if result.is_ok() {
        let moved = read_moved(staging.aside()).unwrap();
        let split = File::open(place().join("split")).unwrap();
        let (root, aside) = (staging.root().try_clone().unwrap(), staging.aside().try_clone().unwrap());
        let mut again = Vec::new();
        match Assemble::new(split, root, aside, moved).read_to_end(&mut again) {
            Ok(_) => assert!(again == tar, "the record makes other bytes"),
            // Written through a symlink that a later entry replaced.
            Err(e) => assert!(e.to_string().contains("is not as it was in the layer"), "{e}"),
        }
    }
});
