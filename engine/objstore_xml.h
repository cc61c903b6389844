/* objstore_xml.h - just enough XML to read the answers of an S3 service, all of which are hostile input.
 *
 * Elements, character data, CDATA, entities and character references, comments, processing instructions. Attributes are
 * skipped, namespace prefixes cut off. A document type is refused: it is how XML becomes expensive. Nothing recurses,
 * nothing is allocated, no byte is looked at more often than it has elements around it.
 *
 *     struct bytes name, inner;
 *     while ((more = objxml_child(&rest, &name, &inner)) > 0) ...
 *     if (more < 0) not well-formed
 *
 * What is handed out points into the document. Any thread; never blocks.
 */
#ifndef COFFER_ENGINE_OBJSTORE_XML_H
#define COFFER_ENGINE_OBJSTORE_XML_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

/* Takes the next element off the content *in: 1 with its name and content, 0 when there is none, -1 when the content is
 * not well-formed as far as it was read; *name and *inner are empty then. */
int objxml_child(struct bytes *in, struct bytes *name, struct bytes *inner);

/* The content of the first child of that name: 1, 0, -1 as above. Of a document: of its root. */
int objxml_find(struct bytes in, const char *name, struct bytes *inner);

/* Content without markup, unescaped, NUL-terminated. ERR_CORRUPT: elements in it, an unknown entity, a character that
 * is none, a NUL. ERR_TOOBIG: does not fit in size bytes. *out is empty then. */
must_use enum err objxml_text(struct bytes inner, char *out, size_t size);

/* Appends text with what is markup escaped. ERR_OOM, ERR_TOOBIG by the buffer's limit. */
must_use enum err objxml_put_text(struct buf *out, const char *text);

#endif
