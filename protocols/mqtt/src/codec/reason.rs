//! MQTT 5's reason codes (section 2.4) and MQTT 3's CONNACK return codes (3.1.1, section 3.2.2.3).

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// A reason code of MQTT 5.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// The code with this number.
            pub fn from_u8(value: u8) -> Option<Self> {
                Some(match value {
                    $($value => Self::$name,)*
                    _ => return None,
                })
            }
        }
    };
}

reason_codes! {
    /// Success; normal disconnection; granted QoS 0.
    Success = 0x00,
    /// Granted QoS 1.
    GrantedQos1 = 0x01,
    /// Granted QoS 2.
    GrantedQos2 = 0x02,
    /// Disconnect, and publish the will.
    DisconnectWithWill = 0x04,
    /// Accepted, but nobody takes it.
    NoMatchingSubscribers = 0x10,
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// Authentication goes on.
    ContinueAuthentication = 0x18,
    /// The client wants to authenticate again.
    ReAuthenticate = 0x19,
    /// An error without a better name.
    UnspecifiedError = 0x80,
    /// The bytes can't be parsed.
    MalformedPacket = 0x81,
    /// The packet is not allowed here.
    ProtocolError = 0x82,
    /// Valid, but not accepted by this server.
    ImplementationSpecificError = 0x83,
    /// The version is not served.
    UnsupportedProtocolVersion = 0x84,
    /// The client id is not accepted.
    ClientIdentifierNotValid = 0x85,
    /// Unknown user or wrong password.
    BadUserNameOrPassword = 0x86,
    /// May not do this.
    NotAuthorized = 0x87,
    /// The server is not available.
    ServerUnavailable = 0x88,
    /// Try later.
    ServerBusy = 0x89,
    /// Banned by an operator.
    Banned = 0x8A,
    /// The server is going down.
    ServerShuttingDown = 0x8B,
    /// The authentication method is not served, or not the connection's.
    BadAuthenticationMethod = 0x8C,
    /// Nothing came within one and a half times the keep alive.
    KeepAliveTimeout = 0x8D,
    /// Another connection took the session over.
    SessionTakenOver = 0x8E,
    /// The filter can't be subscribed to.
    TopicFilterInvalid = 0x8F,
    /// The topic name is not accepted.
    TopicNameInvalid = 0x90,
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91,
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92,
    /// More unacknowledged publishes than the receive maximum.
    ReceiveMaximumExceeded = 0x93,
    /// The topic alias is 0 or above the maximum.
    TopicAliasInvalid = 0x94,
    /// Larger than the maximum packet size.
    PacketTooLarge = 0x95,
    /// Too many messages in too short a time.
    MessageRateTooHigh = 0x96,
    /// A quota is used up.
    QuotaExceeded = 0x97,
    /// Ended by an operator.
    AdministrativeAction = 0x98,
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99,
    /// Retained messages are not served.
    RetainNotSupported = 0x9A,
    /// The QoS is not served.
    QosNotSupported = 0x9B,
    /// Use another server for now.
    UseAnotherServer = 0x9C,
    /// Use another server for good.
    ServerMoved = 0x9D,
    /// Shared subscriptions are not served.
    SharedSubscriptionsNotSupported = 0x9E,
    /// Too many connections in too short a time.
    ConnectionRateExceeded = 0x9F,
    /// Too long connected.
    MaximumConnectTime = 0xA0,
    /// Subscription identifiers are not served.
    SubscriptionIdentifiersNotSupported = 0xA1,
    /// Wildcards are not served.
    WildcardSubscriptionsNotSupported = 0xA2,
}

impl ReasonCode {
    /// An error (0x80 and above)?
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// What SUBACK says of a granted QoS.
    pub fn granted(qos: u8) -> Self {
        match qos {
            0 => Self::Success,
            1 => Self::GrantedQos1,
            _ => Self::GrantedQos2,
        }
    }
}

/// A CONNACK return code of MQTT 3.1 and 3.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConnectReturn {
    /// Accepted.
    Accepted = 0,
    /// The version is not served.
    UnacceptableProtocolVersion = 1,
    /// The client id is not accepted.
    IdentifierRejected = 2,
    /// The server is not available.
    ServerUnavailable = 3,
    /// Unknown user or wrong password.
    BadUserNameOrPassword = 4,
    /// May not connect.
    NotAuthorized = 5,
}
