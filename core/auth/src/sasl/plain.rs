//! PLAIN: `[authzid] NUL authcid NUL password` (RFC 4616).

use crate::Denied;

/// What a client says in PLAIN.
#[derive(Debug, PartialEq, Eq)]
pub struct PlainMessage<'a> {
    /// Whom to act as; empty: oneself.
    pub authorization: &'a [u8],
    /// Who it is.
    pub user: &'a [u8],
    /// The password. It may contain anything but NUL.
    pub password: &'a [u8],
}

/// Takes a PLAIN message apart.
///
/// # Errors
/// It does not have its three parts.
pub fn parse_plain(message: &[u8]) -> Result<PlainMessage<'_>, Denied> {
    let mut parts = message.split(|byte| *byte == 0);
    let (Some(authorization), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Denied::Malformed("PLAIN has not three parts"));
    };
    Ok(PlainMessage {
        authorization,
        user,
        password,
    })
}
