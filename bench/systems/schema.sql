-- The shop's one database, before it was split.
CREATE TABLE products (
    product_id text PRIMARY KEY,
    name text NOT NULL,
    price bigint NOT NULL,
    stock bigint NOT NULL CHECK (stock >= 0)
);
CREATE TABLE accounts (
    user_id text PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0)
);
CREATE TABLE coupons (
    coupon_id text PRIMARY KEY,
    user_id text NOT NULL,
    discount bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    order_id bigint,
    version integer NOT NULL DEFAULT 0
);
CREATE TABLE orders (
    order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    status text NOT NULL,
    coupon_id text,
    points bigint NOT NULL,
    total bigint,
    discount bigint,
    amount_due bigint,
    placed_at timestamptz NOT NULL
);
CREATE TABLE order_lines (
    order_id bigint NOT NULL REFERENCES orders,
    product_id text NOT NULL,
    quantity integer NOT NULL,
    unit_price bigint NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
CREATE TABLE point_history (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    order_id bigint,
    amount bigint NOT NULL,
    at timestamptz NOT NULL
);
