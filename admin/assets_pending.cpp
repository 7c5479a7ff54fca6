#include "admin/assets.hpp"
namespace banyan::admin {
const std::vector<Asset>& assets() {
    static const std::vector<Asset> none;
    return none;
}
}  // namespace banyan::admin
