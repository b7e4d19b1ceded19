//! What several targets need: text, dice that the input throws, tar archives.

/// The input as text, if it is that and not too long for what is quadratic by nature.
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok().filter(|t| t.len() <= 16 << 10)
}

/// Numbers that depend on the input alone.
pub struct Dice(u64);

impl Dice {
    pub fn new(data: &[u8]) -> Self {
        Self(data.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)))
    }

    /// Below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Gives every block that can be a header the right sum.
pub fn mend_tar(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().next_multiple_of(512), 0);
    let mut at = 0;
    while at + 512 <= out.len() {
        let block = &mut out[at..at + 512];
        at += 512;
        if block.iter().all(|b| *b == 0) {
            continue;
        }
        // A size in octal digits, so that what follows can be skipped.
        let size = std::str::from_utf8(&block[124..135]).ok().and_then(|t| u64::from_str_radix(t.trim(), 8).ok());
        seal(block);
        at += size.map_or(0, |n| (n as usize).min(1 << 20).next_multiple_of(512));
    }
    out
}

/// Writes archives that a program in bytes describes.
#[derive(Default)]
pub struct Tar(Vec<u8>);

const NAMES: [&str; 24] = [
    "a",
    "b",
    "c",
    "a/b",
    "a/b/c",
    "b/a",
    "c/a/b",
    ".",
    "",
    "/",
    "..",
    "../canary",
    "a/../b",
    "/a",
    "a/..",
    "../../a",
    ".wh.a",
    ".wh..wh..opq",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh..",
    ".wh.",
    "etc/passwd",
    ".wh..wh.aufs",
];
const LINKS: [&str; 16] = [
    "a",
    "b",
    "a/b",
    "/",
    ".",
    "..",
    "../..",
    "../canary",
    "/dev/shm",
    "/etc",
    "/proc/self/root",
    "c",
    "/a",
    "",
    "../a/b",
    "/proc/self/fd",
];

impl Tar {
    fn header(&mut self, name: &[u8], link: &[u8], kind: u8, size: usize, mode: u32) {
        let mut block = [0; 512];
        let put = |field: &mut [u8], text: &[u8]| field[..text.len()].copy_from_slice(text);
        put(&mut block[..100], &name[..name.len().min(100)]);
        put(&mut block[100..108], format!("{mode:07o}\0").as_bytes());
        put(&mut block[108..116], b"0000000\0");
        put(&mut block[116..124], b"0000000\0");
        put(&mut block[124..136], format!("{size:011o}\0").as_bytes());
        put(&mut block[136..148], b"00000000001\0");
        block[156] = kind;
        put(&mut block[157..257], &link[..link.len().min(100)]);
        put(&mut block[257..265], b"ustar\x0000");
        seal(&mut block);
        self.0.extend_from_slice(&block);
    }

    fn payload(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn pax(&mut self, key: &str, value: &[u8]) {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length += 1;
        }
        let record = [length.to_string().as_bytes(), &body].concat();
        self.header(b"pax", b"", b'x', record.len(), 0o644);
        self.payload(&record);
    }

    /// Four bytes an entry: kind, name, link or content, mode.
    pub fn from_program(dice: &mut Dice, program: &[u8]) -> Vec<u8> {
        let mut tar = Self::default();
        for step in program.chunks_exact(4).take(64) {
            let name = NAMES[usize::from(step[1]) % NAMES.len()].as_bytes();
            let link = LINKS[usize::from(step[2]) % LINKS.len()].as_bytes();
            let mode = [0o755, 0o644, 0o000, 0o7777][usize::from(step[3] & 3)];
            let kind = b"0001112223456gSx"[usize::from(step[0] & 15)];
            match kind {
                b'x' if step[3] & 4 == 0 => tar.pax("path", name),
                b'x' if step[3] & 8 == 0 => tar.pax("linkpath", link),
                b'x' => tar.pax("SCHILY.xattr.user.a", link),
                b'S' => {
                    tar.pax("GNU.sparse.map", b"0,3,1000,2");
                    tar.pax("GNU.sparse.size", b"2000");
                    tar.header(name, b"", b'0', 5, mode);
                    tar.payload(b"abcde");
                }
                b'0' => {
                    let content = vec![step[2]; dice.roll(600)];
                    tar.header(name, b"", b'0', content.len(), mode);
                    tar.payload(&content);
                }
                b'g' => {
                    tar.header(b"g", b"", b'g', 0, 0o644);
                }
                kind => tar.header(name, link, kind, 0, mode),
            }
        }
        tar.0.resize(tar.0.len() + 1024, 0);
        tar.0
    }
}
