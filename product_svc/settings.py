"""product_svc's own settings."""

from zoneinfo import ZoneInfo

from infra.settings import Settings


class ProductSettings(Settings, frozen=True, kw_only=True):
    shop_tz: str = "Asia/Seoul"
    """Time zone (IANA name) in which the days of the ranking of popular products begin."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            ZoneInfo(self.shop_tz)
        except (LookupError, ValueError, OSError) as error:
            raise ValueError(f"SHOP_TZ is {self.shop_tz!r}, not a time zone's IANA name such as Asia/Seoul") from error
