"""Pages as several servers write them, after their sources and their replies to real requests."""

from typing import NamedTuple

_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_S3 = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
OWNER = "<Owner><ID>75aa57f09aa0</ID><DisplayName>me &amp; you</DisplayName></Owner>"


class Vendor(NamedTuple):
    """How a server writes a list of two objects, "a b+ü" of 5 bytes and "c" of none, which goes on
    after the token "t/+=="; whether a pattern must do for it, without lxml."""

    name: str
    page: str
    plain: bool = True


LISTS = (
    Vendor(
        "AWS: some objects with a checksum",
        f"{_XML}\n<ListBucketResult {_S3}><Name>b</Name><Prefix></Prefix>"
        "<NextContinuationToken>t/+==</NextContinuationToken><KeyCount>2</KeyCount>"
        "<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<Contents><Key>a+b%2B%C3%BC</Key><LastModified>2026-11-25T20:13:08.000Z</LastModified>"
        f"<ETag>&quot;{MD5}-2&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
        "</Contents><Contents><Key>c</Key><LastModified>2026-11-25T20:13:09.000Z</LastModified>"
        f"<ETag>&quot;{MD5}&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
        "<ChecksumType>FULL_OBJECT</ChecksumType><Size>0</Size><StorageClass>GLACIER</StorageClass>"
        "</Contents></ListBucketResult>",
    ),
    Vendor(
        "Ceph: owners after classes, a type, and the class of the second left out",
        f"{_XML}<ListBucketResult {_S3}><Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        f"<Contents><Key>a%20b%2B%C3%BC</Key><LastModified>2026-11-25T20:13:08.999Z</LastModified>"
        f"<ETag>&quot;{MD5}-2&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>"
        f"{OWNER}<Type>Normal</Type></Contents>"
        f"<Contents><Key>c</Key><LastModified>2026-11-25T20:13:09.001Z</LastModified>"
        f"<ETag>&quot;{MD5}&quot;</ETag><Size>0</Size><StorageClass>GLACIER</StorageClass>"
        f"{OWNER}<Type>Normal</Type></Contents>"
        "<NextContinuationToken>t/+==</NextContinuationToken><KeyCount>2</KeyCount>"
        "</ListBucketResult>",
    ),
    Vendor(
        "MinIO: owners before classes",
        f"{_XML}\n<ListBucketResult {_S3}><Name>b</Name><Prefix></Prefix>"
        "<NextContinuationToken>t/+==</NextContinuationToken><KeyCount>2</KeyCount>"
        "<MaxKeys>1000</MaxKeys><Delimiter></Delimiter><IsTruncated>true</IsTruncated>"
        f"<Contents><Key>a+b%2B%C3%BC</Key><LastModified>2026-11-25T20:13:08.123Z</LastModified>"
        f"<ETag>&#34;{MD5}-2&#34;</ETag><Size>5</Size>{OWNER}<StorageClass>STANDARD</StorageClass>"
        f"</Contents><Contents><Key>c</Key><LastModified>2026-11-25T20:13:09.5Z</LastModified>"
        f"<ETag>&#34;{MD5}&#34;</ETag><Size>0</Size>{OWNER}<StorageClass>GLACIER</StorageClass>"
        "</Contents><EncodingType>url</EncodingType></ListBucketResult>",
    ),
    Vendor(
        "moto: lines and spaces, and ETags in plain quotes",
        f"{_XML}\n<ListBucketResult {_S3}>\n  <Name>b</Name>\n  <KeyCount>2</KeyCount>\n"
        "  <EncodingType>url</EncodingType>\n  <IsTruncated>true</IsTruncated>\n"
        "  <NextContinuationToken>t/+==</NextContinuationToken>\n  <Contents>\n"
        "    <Key>a%20b%2B%C3%BC</Key>\n    <LastModified>2026-11-25T20:13:08.000Z</LastModified>\n"
        f'    <ETag>"{MD5}-2"</ETag>\n    <Size>5</Size>\n'
        "    <StorageClass>STANDARD</StorageClass>\n  </Contents>\n  <Contents>\n    <Key>c</Key>\n"
        f'    <LastModified>2026-11-25T20:13:09.000Z</LastModified>\n    <ETag>"{MD5}"</ETag>\n'
        "    <Size>0</Size>\n    <StorageClass>GLACIER</StorageClass>\n  </Contents>\n"
        "</ListBucketResult>\n",
    ),
    Vendor(
        "versitygw: names are not encoded, whatever was asked for",
        f"<ListBucketResult {_S3}><Name>b</Name><MaxKeys>2</MaxKeys><IsTruncated>true"
        "</IsTruncated><NextContinuationToken>t/+==</NextContinuationToken>"
        "<Contents><ETag>&quot;"
        f"{MD5}-2&quot;</ETag><Key>a b+ü</Key><LastModified>2026-11-25T20:13:08Z</LastModified>"
        "<Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>"
        f"<Contents><ETag>&quot;{MD5}&quot;</ETag><Key>c</Key>"
        "<LastModified>2026-11-25T20:13:09Z</LastModified><Size>0</Size>"
        "<StorageClass>GLACIER</StorageClass></Contents></ListBucketResult>",
    ),
    Vendor(
        "nobody's: prefixes of a namespace, CDATA, comments, ends of lines of DOS",
        f"{_XML}\r\n<s:ListBucketResult xmlns:s='http://s3.amazonaws.com/doc/2006-03-01/'>\r\n"
        "<s:IsTruncated> true </s:IsTruncated><s:Contents><s:Size>5</s:Size><s:Key>"
        "<![CDATA[a b]]>+&#252;</s:Key><!-- <s:Key>x</s:Key> --><s:ETag>"
        f"&#x22;{MD5}-2&quot;</s:ETag><s:LastModified>2026-11-25T22:13:08+02:00</s:LastModified>"
        "<s:StorageClass>STANDARD</s:StorageClass></s:Contents><s:Contents><s:Key>c</s:Key><s:ETag>"
        f"{MD5}</s:ETag><s:Size> 0 </s:Size><s:StorageClass>GLACIER</s:StorageClass>"
        "<s:LastModified>2026-11-25T20:13:09Z</s:LastModified></s:Contents><s:Contents/>"
        "<s:NextContinuationToken>t/+==</s:NextContinuationToken></s:ListBucketResult>",
        plain=False,
    ),
)
VERSIONS = (
    Vendor(
        "AWS: markers among the versions",
        f"{_XML}\n<ListVersionsResult {_S3}><Name>b</Name><Prefix></Prefix><KeyMarker></KeyMarker>"
        "<VersionIdMarker></VersionIdMarker><NextKeyMarker>c+%2B</NextKeyMarker>"
        "<NextVersionIdMarker>v.4</NextVersionIdMarker><MaxKeys>4</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<Version><Key>a+b%2B%C3%BC</Key><VersionId>v.1</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>2026-11-25T20:13:08.000Z</LastModified><ETag>&quot;{MD5}&quot;</ETag>"
        f"<Size>5</Size><StorageClass>STANDARD</StorageClass>{OWNER}</Version>"
        "<DeleteMarker><Key>c+%2B</Key><VersionId>v.2</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>2026-11-25T20:13:10.000Z</LastModified>{OWNER}</DeleteMarker>"
        "<Version><Key>c+%2B</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>2026-11-25T20:13:09.000Z</LastModified><ETag>&quot;{MD5}-2&quot;</ETag>"
        f"<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><Size>0</Size>"
        f"<StorageClass>GLACIER</StorageClass>{OWNER}</Version>"
        "<DeleteMarker><Key>c+%2B</Key><VersionId>v.4</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>2026-11-25T20:13:08.000Z</LastModified>{OWNER}</DeleteMarker>"
        "</ListVersionsResult>",
    ),
    Vendor(
        "Ceph: its next key is not encoded",
        f"{_XML}<ListVersionsResult {_S3}><Name>b</Name><Prefix></Prefix><MaxKeys>4</MaxKeys>"
        "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><KeyMarker></KeyMarker>"
        "<VersionIdMarker></VersionIdMarker><NextKeyMarker>c +</NextKeyMarker>"
        "<NextVersionIdMarker>v.4</NextVersionIdMarker>"
        "<Version><Key>a%20b%2B%C3%BC</Key><VersionId>v.1</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>2026-11-25T20:13:08.999Z</LastModified><ETag>&quot;{MD5}&quot;</ETag>"
        f"<Size>5</Size><StorageClass>STANDARD</StorageClass>{OWNER}<Type>Normal</Type></Version>"
        "<DeleteMarker><Key>c%20%2B</Key><VersionId>v.2</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>2026-11-25T20:13:10.000Z</LastModified>{OWNER}</DeleteMarker>"
        "<Version><Key>c%20%2B</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>2026-11-25T20:13:09.000Z</LastModified><ETag>&quot;{MD5}-2&quot;</ETag>"
        f"<Size>0</Size><StorageClass>GLACIER</StorageClass>{OWNER}<Type>Normal</Type></Version>"
        "<DeleteMarker><Key>c%20%2B</Key><VersionId>v.4</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>2026-11-25T20:13:08.000Z</LastModified>{OWNER}</DeleteMarker>"
        "</ListVersionsResult>",
    ),
    Vendor(
        "MinIO: identities last",
        f"{_XML}\n<ListVersionsResult {_S3}><Name>b</Name><Prefix></Prefix><KeyMarker></KeyMarker>"
        "<NextKeyMarker>c+%2B</NextKeyMarker><NextVersionIdMarker>v.4</NextVersionIdMarker>"
        "<VersionIdMarker></VersionIdMarker><MaxKeys>4</MaxKeys><Delimiter></Delimiter>"
        "<IsTruncated>true</IsTruncated>"
        "<Version><Key>a+b%2B%C3%BC</Key><LastModified>2026-11-25T20:13:08.999Z</LastModified>"
        f"<ETag>&#34;{MD5}&#34;</ETag><Size>5</Size>{OWNER}<StorageClass>STANDARD</StorageClass>"
        "<IsLatest>true</IsLatest><VersionId>v.1</VersionId></Version>"
        "<DeleteMarker><Key>c+%2B</Key><LastModified>2026-11-25T20:13:10Z</LastModified>"
        f"{OWNER}<IsLatest>true</IsLatest><VersionId>v.2</VersionId></DeleteMarker>"
        "<Version><Key>c+%2B</Key><LastModified>2026-11-25T20:13:09Z</LastModified>"
        f"<ETag>&#34;{MD5}-2&#34;</ETag><Size>0</Size>{OWNER}<StorageClass>GLACIER</StorageClass>"
        "<IsLatest>false</IsLatest><VersionId>null</VersionId></Version>"
        "<DeleteMarker><Key>c+%2B</Key><LastModified>2026-11-25T20:13:08Z</LastModified>"
        f"{OWNER}<IsLatest>false</IsLatest><VersionId>v.4</VersionId></DeleteMarker>"
        "<EncodingType>url</EncodingType></ListVersionsResult>",
    ),
    Vendor(
        "moto: versions first, then markers, in lines",
        f"{_XML}\n<ListVersionsResult {_S3}>\n  <Name>b</Name>\n  <KeyMarker></KeyMarker>\n"
        "  <IsTruncated>true</IsTruncated>\n  <NextKeyMarker>c +</NextKeyMarker>\n"
        "  <NextVersionIdMarker>v.4</NextVersionIdMarker>\n"
        "  <Version>\n    <Key>a b+ü</Key>\n    <VersionId>v.1</VersionId>\n"
        "    <IsLatest>true</IsLatest>\n    <LastModified>2026-11-25T20:13:08.000Z</LastModified>\n"
        f'    <ETag>"{MD5}"</ETag>\n    <Size>5</Size>\n    <StorageClass>STANDARD</StorageClass>\n'
        f"    {OWNER}\n  </Version>\n  <Version>\n    <Key>c +</Key>\n"
        "    <VersionId>null</VersionId>\n    <IsLatest>false</IsLatest>\n"
        f'    <LastModified>2026-11-25T20:13:09.000Z</LastModified>\n    <ETag>"{MD5}-2"</ETag>\n'
        "    <Size>0</Size>\n    <StorageClass>GLACIER</StorageClass>\n  </Version>\n"
        "  <DeleteMarker>\n    <Key>c +</Key>\n    <VersionId>v.2</VersionId>\n"
        "    <IsLatest>true</IsLatest>\n    <LastModified>2026-11-25T20:13:10.000Z</LastModified>\n"
        "  </DeleteMarker>\n  <DeleteMarker>\n    <Key>c +</Key>\n    <VersionId>v.4</VersionId>\n"
        "    <IsLatest>false</IsLatest>\n"
        "    <LastModified>2026-11-25T20:13:08.000Z</LastModified>\n"
        "  </DeleteMarker>\n</ListVersionsResult>\n",
    ),
)
"""A list of the versions "v.1" of "a b+ü" and "null" of "c +", and of the markers "v.2" and "v.4"
of "c +"; it goes on after the last."""
