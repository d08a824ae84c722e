//! Random UUIDs and numbers, for nonces and ids.

use std::io;

/// A random UUID (RFC 9562, version 4).
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn uuid() -> io::Result<String> {
    let mut bytes = random::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// A number for a connection of a host, which no other connection has: below 2^53, which every JSON reader keeps exactly.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn connection_number() -> io::Result<u64> {
    Ok(u64::from_le_bytes(random()?) >> 11)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // So few come whole or not at all (getrandom(2)).
    let none = |error| io::Error::other(format!("the kernel gave no random bytes: {error}"));
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(none)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_version_4_and_never_the_same() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, other);
        let parts: Vec<&str> = one.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{one}");
    }
}
