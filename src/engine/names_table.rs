//! The words that random container names are made of. A flat table, no logic.

pub const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "amber", "ample", "apt", "ardent", "artful", "astute", "autumn", "balmy", "blithe",
    "bold", "boring", "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheery", "civil", "clever",
    "coastal", "cosy", "crisp", "curious", "dapper", "daring", "deft", "diligent", "dreamy", "eager", "earnest",
    "easy", "elated", "exact", "fair", "famous", "fearless", "fervent", "fluent", "fond", "frank", "free", "fresh",
    "frosty", "gallant", "genial", "gentle", "gifted", "glad", "golden", "graceful", "grand", "hardy", "hasty",
    "hearty", "hidden", "honest", "humble", "ideal", "jaunty", "jolly", "jovial", "keen", "kind", "lively", "lucid",
    "lucky", "lunar", "mellow", "merry", "mighty", "mild", "misty", "modest", "musing", "neat", "nimble", "noble",
    "patient", "peaceful", "placid", "plucky", "polite", "prompt", "proud", "quiet", "quirky", "radiant", "ready",
    "rustic", "sage", "sharp", "silent", "sincere", "sleepy", "smooth", "snug", "solar", "spry", "steady", "stoic",
    "sunny", "supple", "swift", "tender", "thrifty", "tidy", "tranquil", "trusty", "upbeat", "valiant", "vivid",
    "warm", "wise", "witty", "zealous", "zesty",
];

/// People of science and engineering.
pub const SURNAMES: &[&str] = &[
    "abel", "agnesi", "ampere", "anning", "archimedes", "babbage", "bardeen", "bassi", "becquerel", "bell", "bessel",
    "blackwell", "bohr", "boltzmann", "boole", "bose", "boyle", "brahe", "brattain", "burnell", "cannon", "cantor",
    "carson", "cauchy", "cavendish", "celsius", "chandrasekhar", "chatelet", "cori", "coulomb", "curie", "dalton",
    "darwin", "davy", "dijkstra", "dirac", "doppler", "easley", "eddington", "edison", "einstein", "erdos", "euclid",
    "euler", "faraday", "fermat", "fermi", "feynman", "fibonacci", "fourier", "franklin", "fresnel", "galileo",
    "galois", "gauss", "germain", "gibbs", "goedel", "goodall", "hamilton", "hamming", "heisenberg", "helmholtz",
    "hermite", "herschel", "hertz", "hilbert", "hodgkin", "hooke", "hopper", "hubble", "hypatia", "jacobi", "jemison",
    "johnson", "joliot", "joule", "kelvin", "kepler", "khayyam", "kilby", "knuth", "kolmogorov", "kovalevskaya",
    "lagrange", "lamarr", "laplace", "lavoisier", "leavitt", "leibniz", "liskov", "lorentz", "lovelace", "lumiere",
    "maxwell", "mayer", "mcclintock", "meitner", "mendel", "mendeleev", "mirzakhani", "montalcini", "morse", "napier",
    "nash", "newton", "nightingale", "nobel", "noether", "noyce", "ohm", "pascal", "pasteur", "pauli", "pauling",
    "payne", "perlman", "planck", "poincare", "poisson", "ptolemy", "raman", "ramanujan", "rayleigh", "riemann",
    "ritchie", "roentgen", "rubin", "rutherford", "sagan", "sammet", "schroedinger", "shannon", "shockley",
    "somerville", "stokes", "tesla", "thompson", "torvalds", "turing", "volta", "watt", "weierstrass", "wozniak", "wu",
    "yalow", "young", "yukawa", "zuse",
];
