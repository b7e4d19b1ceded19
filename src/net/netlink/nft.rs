//! The few nftables requests that the name server needs: packets to one address
//! and port are sent to another port, and answers back. Both directions are plain
//! rewriting of a port on its way out (no NAT, no connection tracking), which
//! works because both ends are on loopback. Pure.

use super::message::Request;
use std::net::Ipv4Addr;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const IPV4: u8 = 2;
const LOCAL_OUT: u32 = 3;
const TABLE: &str = "engine-dns";
const CHAIN: &str = "out";

// Attributes; each is of the message or expression that its name begins with.
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const PAYLOAD_DESTINATION: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const PAYLOAD_SOURCE: u16 = 5;
const PAYLOAD_CHECKSUM: u16 = 6;
const PAYLOAD_CHECKSUM_OFFSET: u16 = 7;
const CMP_SOURCE: u16 = 1;
const CMP_OPERATION: u16 = 2;
const CMP_DATA: u16 = 3;
const IMMEDIATE_DESTINATION: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;

const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const INTERNET_CHECKSUM: u32 = 1;

/// struct nfgenmsg
fn general(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn expression(rule: Request, name: &str, fill: impl FnOnce(Request) -> Request) -> Request {
    rule.nest(LIST_ELEMENT, |r| r.attr_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill))
}

/// Goes on only if the bytes at `offset` of a header are `value`.
fn matches(rule: Request, base: u32, offset: u32, value: &[u8]) -> Request {
    let rule = expression(rule, "payload", |r| {
        r.attr_be32(PAYLOAD_DESTINATION, REGISTER)
            .attr_be32(PAYLOAD_BASE, base)
            .attr_be32(PAYLOAD_OFFSET, offset)
            .attr_be32(PAYLOAD_LENGTH, value.len() as u32)
    });
    expression(rule, "cmp", |r| {
        r.attr_be32(CMP_SOURCE, REGISTER).attr_be32(CMP_OPERATION, 0).nest(CMP_DATA, |r| r.attr(DATA_VALUE, value))
    })
}

/// Writes a port into the transport header and mends the checksum.
fn write_port(rule: Request, offset: u32, port: u16, checksum: u32) -> Request {
    let rule = expression(rule, "immediate", |r| {
        r.attr_be32(IMMEDIATE_DESTINATION, REGISTER).nest(IMMEDIATE_DATA, |r| r.attr(DATA_VALUE, &port.to_be_bytes()))
    });
    expression(rule, "payload", |r| {
        r.attr_be32(PAYLOAD_SOURCE, REGISTER)
            .attr_be32(PAYLOAD_BASE, TRANSPORT_HEADER)
            .attr_be32(PAYLOAD_OFFSET, offset)
            .attr_be32(PAYLOAD_LENGTH, 2)
            .attr_be32(PAYLOAD_CHECKSUM, INTERNET_CHECKSUM)
            .attr_be32(PAYLOAD_CHECKSUM_OFFSET, checksum)
    })
}

/// A batch after which whoever asks `address`:`port` is heard on `udp` and `tcp`
/// of the same address, and never knows.
pub fn move_port(address: Ipv4Addr, port: u16, udp: u16, tcp: u16) -> Vec<Request> {
    let table = |kind, flags| Request::new(kind, flags).body(&general(IPV4, 0)).attr_str(TABLE_NAME, TABLE);
    let chain = Request::new(NEW_CHAIN, libc::NLM_F_CREATE)
        .body(&general(IPV4, 0))
        .attr_str(CHAIN_TABLE, TABLE)
        .attr_str(CHAIN_NAME, CHAIN)
        .nest(CHAIN_HOOK, |r| r.attr_be32(HOOK_NUMBER, LOCAL_OUT).attr_be32(HOOK_PRIORITY, 0))
        .attr_str(CHAIN_TYPE, "filter");
    let rule = |protocol: u8, outward: bool, from: u16, to: u16| {
        let (address_at, port_at) = if outward { (16, 2) } else { (12, 0) };
        let checksum_at = if protocol == 6 { 16 } else { 6 };
        Request::new(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND)
            .body(&general(IPV4, 0))
            .attr_str(RULE_TABLE, TABLE)
            .attr_str(RULE_CHAIN, CHAIN)
            .nest(RULE_EXPRESSIONS, |r| {
                let r = matches(r, NETWORK_HEADER, address_at, &address.octets());
                let r = matches(r, NETWORK_HEADER, 9, &[protocol]);
                let r = matches(r, TRANSPORT_HEADER, port_at, &from.to_be_bytes());
                write_port(r, port_at, to, checksum_at)
            })
    };
    vec![
        Request::unacknowledged(BATCH_BEGIN).body(&general(0, SUBSYSTEM >> 8)),
        // There may be one of a name server before us: deleting needs one.
        table(NEW_TABLE, libc::NLM_F_CREATE),
        table(DELETE_TABLE, 0),
        table(NEW_TABLE, libc::NLM_F_CREATE),
        chain,
        rule(17, true, port, udp),
        rule(17, false, udp, port),
        rule(6, true, port, tcp),
        rule(6, false, tcp, port),
        Request::unacknowledged(BATCH_END).body(&general(0, SUBSYSTEM >> 8)),
    ]
}
