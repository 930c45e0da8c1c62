//! The numbers of classes and methods.

use std::fmt;

/// A method: its class and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MethodId(pub u16, pub u16);

impl MethodId {
    /// No method: what an error not caused by one carries.
    pub const NONE: Self = Self(0, 0);
}

macro_rules! ids {
    ($($name:ident = $class:literal, $method:literal, $text:literal;)*) => {
        impl MethodId {
            $(
                #[doc = concat!("`", $text, "`")]
                pub const $name: Self = Self($class, $method);
            )*

            /// Its name in the specification, if it is one of AMQP 0-9-1's or of RabbitMQ's extensions.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

ids! {
    CONNECTION_START = 10, 10, "connection.start";
    CONNECTION_START_OK = 10, 11, "connection.start_ok";
    CONNECTION_SECURE = 10, 20, "connection.secure";
    CONNECTION_SECURE_OK = 10, 21, "connection.secure_ok";
    CONNECTION_TUNE = 10, 30, "connection.tune";
    CONNECTION_TUNE_OK = 10, 31, "connection.tune_ok";
    CONNECTION_OPEN = 10, 40, "connection.open";
    CONNECTION_OPEN_OK = 10, 41, "connection.open_ok";
    CONNECTION_CLOSE = 10, 50, "connection.close";
    CONNECTION_CLOSE_OK = 10, 51, "connection.close_ok";
    CONNECTION_BLOCKED = 10, 60, "connection.blocked";
    CONNECTION_UNBLOCKED = 10, 61, "connection.unblocked";
    CONNECTION_UPDATE_SECRET = 10, 70, "connection.update_secret";
    CONNECTION_UPDATE_SECRET_OK = 10, 71, "connection.update_secret_ok";
    CHANNEL_OPEN = 20, 10, "channel.open";
    CHANNEL_OPEN_OK = 20, 11, "channel.open_ok";
    CHANNEL_FLOW = 20, 20, "channel.flow";
    CHANNEL_FLOW_OK = 20, 21, "channel.flow_ok";
    CHANNEL_CLOSE = 20, 40, "channel.close";
    CHANNEL_CLOSE_OK = 20, 41, "channel.close_ok";
    ACCESS_REQUEST = 30, 10, "access.request";
    ACCESS_REQUEST_OK = 30, 11, "access.request_ok";
    EXCHANGE_DECLARE = 40, 10, "exchange.declare";
    EXCHANGE_DECLARE_OK = 40, 11, "exchange.declare_ok";
    EXCHANGE_DELETE = 40, 20, "exchange.delete";
    EXCHANGE_DELETE_OK = 40, 21, "exchange.delete_ok";
    EXCHANGE_BIND = 40, 30, "exchange.bind";
    EXCHANGE_BIND_OK = 40, 31, "exchange.bind_ok";
    EXCHANGE_UNBIND = 40, 40, "exchange.unbind";
    EXCHANGE_UNBIND_OK = 40, 51, "exchange.unbind_ok";
    QUEUE_DECLARE = 50, 10, "queue.declare";
    QUEUE_DECLARE_OK = 50, 11, "queue.declare_ok";
    QUEUE_BIND = 50, 20, "queue.bind";
    QUEUE_BIND_OK = 50, 21, "queue.bind_ok";
    QUEUE_PURGE = 50, 30, "queue.purge";
    QUEUE_PURGE_OK = 50, 31, "queue.purge_ok";
    QUEUE_DELETE = 50, 40, "queue.delete";
    QUEUE_DELETE_OK = 50, 41, "queue.delete_ok";
    QUEUE_UNBIND = 50, 50, "queue.unbind";
    QUEUE_UNBIND_OK = 50, 51, "queue.unbind_ok";
    BASIC_QOS = 60, 10, "basic.qos";
    BASIC_QOS_OK = 60, 11, "basic.qos_ok";
    BASIC_CONSUME = 60, 20, "basic.consume";
    BASIC_CONSUME_OK = 60, 21, "basic.consume_ok";
    BASIC_CANCEL = 60, 30, "basic.cancel";
    BASIC_CANCEL_OK = 60, 31, "basic.cancel_ok";
    BASIC_PUBLISH = 60, 40, "basic.publish";
    BASIC_RETURN = 60, 50, "basic.return";
    BASIC_DELIVER = 60, 60, "basic.deliver";
    BASIC_GET = 60, 70, "basic.get";
    BASIC_GET_OK = 60, 71, "basic.get_ok";
    BASIC_GET_EMPTY = 60, 72, "basic.get_empty";
    BASIC_ACK = 60, 80, "basic.ack";
    BASIC_REJECT = 60, 90, "basic.reject";
    BASIC_RECOVER_ASYNC = 60, 100, "basic.recover_async";
    BASIC_RECOVER = 60, 110, "basic.recover";
    BASIC_RECOVER_OK = 60, 111, "basic.recover_ok";
    BASIC_NACK = 60, 120, "basic.nack";
    CONFIRM_SELECT = 85, 10, "confirm.select";
    CONFIRM_SELECT_OK = 85, 11, "confirm.select_ok";
    TX_SELECT = 90, 10, "tx.select";
    TX_SELECT_OK = 90, 11, "tx.select_ok";
    TX_COMMIT = 90, 20, "tx.commit";
    TX_COMMIT_OK = 90, 21, "tx.commit_ok";
    TX_ROLLBACK = 90, 30, "tx.rollback";
    TX_ROLLBACK_OK = 90, 31, "tx.rollback_ok";
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{{{},{}}}", self.0, self.1),
        }
    }
}
