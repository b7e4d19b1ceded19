//! The classic BPF program in front of the packet socket: of all that reaches
//! a bridge, only what a process has to see. Data segments of TCP are none of
//! its business: the kernel's own sockets take them.

use crate::sys::inet::Instruction;

const LDH_ABS: u16 = 0x28;
const LDB_ABS: u16 = 0x30;
const LDB_IND: u16 = 0x50;
const LDX_MSH: u16 = 0xb1;
const AND: u16 = 0x54;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;

/// TCP with SYN and without ACK, UDP, ICMP (IPv4); the same and echo requests
/// for IPv6, whose other ICMP is the kernel's (neighbour discovery). IPv4
/// fragments arrive put together (PACKET_FANOUT_FLAG_DEFRAG), those of IPv6 as
/// they are.
pub const PROGRAM: &[Instruction] = &[
    /*  0 */ (LDH_ABS, 0, 0, 12),
    /*  1 */ (JEQ, 0, 9, 0x0800), // else 11
    /*  2 */ (LDB_ABS, 0, 0, 23),
    /*  3 */ (JEQ, 22, 0, 17), // udp: 26 accept
    /*  4 */ (JEQ, 21, 0, 1), // icmp: 26 accept
    /*  5 */ (JEQ, 0, 19, 6), // not tcp: 25 drop
    /*  6 */ (LDH_ABS, 0, 0, 20),
    /*  7 */ (JSET, 17, 0, 0x1fff), // a fragment's tail: 25 drop
    /*  8 */ (LDX_MSH, 0, 0, 14),
    /*  9 */ (LDB_IND, 0, 0, 27),
    /* 10 */ (JEQ_JUMP_TO_FLAGS, 12, 12, 0), // 23
    /* 11 */ (JEQ, 0, 13, 0x86dd), // else 25 drop
    /* 12 */ (LDB_ABS, 0, 0, 20),
    /* 13 */ (JEQ, 12, 0, 17), // udp: 26 accept
    /* 14 */ (JEQ, 0, 2, 58), // else 17
    /* 15 */ (LDB_ABS, 0, 0, 54),
    /* 16 */ (JEQ, 9, 8, 128), // echo request: accept, else drop
    /* 17 */ (JEQ, 0, 3, 44), // no fragment: 21
    /* 18 */ (LDB_ABS, 0, 0, 54),
    /* 19 */ (JEQ, 6, 0, 17), // of udp: accept
    /* 20 */ (JEQ, 5, 4, 58), // of icmp: accept, else drop
    /* 21 */ (JEQ, 0, 3, 6), // else drop
    /* 22 */ (LDB_ABS, 0, 0, 67),
    /* 23 */ (AND, 0, 0, 0x12),
    /* 24 */ (JEQ, 1, 0, 0x02), // only SYN: accept
    /* 25 */ (RET, 0, 0, 0),
    /* 26 */ (RET, 0, 0, 0x40000),
];

/// What a listener of `outbound::listen` may hear: of SYNs only those that came
/// in by `interface`. The kernel shows it segments from the TCP header on.
pub fn syn_only_from(interface: u32) -> [Instruction; 7] {
    const LD_INTERFACE: (u16, u32) = (0x20, 0xffff_f000 + 8);
    [
        /* 0 */ (LDB_ABS, 0, 0, 13),
        /* 1 */ (AND, 0, 0, 0x12),
        /* 2 */ (JEQ, 0, 2, 0x02), // no SYN: 5 accept
        /* 3 */ (LD_INTERFACE.0, 0, 0, LD_INTERFACE.1),
        /* 4 */ (JEQ, 0, 1, interface), // else 6 drop
        /* 5 */ (RET, 0, 0, u32::MAX),
        /* 6 */ (RET, 0, 0, 0),
    ]
}

/// Both branches lead to the same place: an unconditional jump.
const JEQ_JUMP_TO_FLAGS: u16 = JEQ;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::packet::{ETHERNET, VNET, build};

    /// What the kernel would do with the program.
    fn run(frame: &[u8]) -> bool {
        let (mut a, mut x, mut pc) = (0u32, 0usize, 0usize);
        loop {
            let (code, jt, jf, k) = PROGRAM[pc];
            pc += 1;
            let at = k as usize;
            let byte = |at: usize| frame.get(at).map(|b| u32::from(*b));
            let loaded = match code {
                LDH_ABS => byte(at).zip(byte(at + 1)).map(|(h, l)| h << 8 | l),
                LDB_ABS => byte(at),
                LDB_IND => byte(x + at),
                LDX_MSH => {
                    let Some(b) = byte(at) else { return false };
                    x = (b as usize & 15) * 4;
                    continue;
                }
                AND => Some(a & k),
                JEQ | JSET => {
                    let yes = if code == JEQ { a == k } else { a & k != 0 };
                    pc += usize::from(if yes { jt } else { jf });
                    continue;
                }
                RET => return k != 0,
                _ => panic!("unknown instruction"),
            };
            let Some(value) = loaded else { return false };
            a = value;
        }
    }

    #[test]
    fn what_passes() {
        let peer = build::Peer { ours: [2; 6], theirs: [4; 6], mtu: 1500 };
        let v4 = ("10.0.0.2:5".parse().unwrap(), "10.0.0.3:53".parse().unwrap());
        let v6 = ("[fd00::1]:7".parse().unwrap(), "[fd00::2]:53".parse().unwrap());
        for (from, to) in [v4, v6] {
            let tcp = |flags| {
                let frame = build::tcp(&peer, from, to, &build::Segment { flags, ..Default::default() });
                run(&frame[VNET..])
            };
            assert!(tcp(2) && tcp(2 | 0xc0), "a SYN, also with ECN");
            assert!(!tcp(0x12) && !tcp(0x10) && !tcp(0x18) && !tcp(4) && !tcp(1));
            let udp = build::udp(&peer, from, to, b"x", 1).remove(0);
            assert!(run(&udp[VNET..]));
            let pieces = build::udp(&peer, from, to, &[0; 4000], 1);
            assert!(pieces.iter().all(|p| run(&p[VNET..])), "fragments");
            let mut other = udp[VNET..].to_vec();
            other[ETHERNET + if from.is_ipv4() { 9 } else { 6 }] = 132;
            assert!(!run(&other));
        }
        assert!(!run(&[0xff; 60]), "ARP and the like");
        assert!(!run(&[]));
    }
}
