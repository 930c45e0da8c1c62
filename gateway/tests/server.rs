//! The binary as an operator meets it: started, asked, told to stop.

#[cfg(test)]
mod server {
    pub(crate) mod bounds;
    pub(crate) mod configurations;
    pub(crate) mod life;
    pub(crate) mod lookup;
    pub(crate) mod process;
    pub(crate) mod transport;
}
